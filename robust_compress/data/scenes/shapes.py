"""Outlines of objects, as signed distances: negative inside, in units of the object's scale.

    u to the right, v downwards, everything within a circle of radius 1.1 about (0, 0)

A distance need not be exact away from the outline, only smooth and of slope close to 1 near it: the renderer takes
the coverage of edge pixels, the bulge of the surface and the softness of the shadow from it. Keypoints lie inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def circle(u, v, x, y, radius):
  u, v = u - np.float32(x), v - np.float32(y)
  return np.sqrt(u * u + v * v) - np.float32(radius)


def box(u, v, x, y, width, height, rounding):
  """Half sizes `width` and `height`, corners of radius `rounding` included."""
  dx = np.abs(u - np.float32(x)) - np.float32(width - rounding)
  dy = np.abs(v - np.float32(y)) - np.float32(height - rounding)
  ox, oy = np.maximum(dx, 0), np.maximum(dy, 0)
  return np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(dx, dy), 0) - np.float32(rounding)


def capsule(u, v, start, end, radius):
  """All within `radius` of the line from `start` to `end`."""
  (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
  u, v = u - np.float32(x), v - np.float32(y)
  along = np.clip((u * np.float32(dx) + v * np.float32(dy)) * np.float32(1 / (dx * dx + dy * dy)), 0, 1)
  u, v = u - along * np.float32(dx), v - along * np.float32(dy)
  return np.sqrt(u * u + v * v) - np.float32(radius)


def lens(u, v, x, length, width):
  """Where two circles overlap: pointed at (x ± length, 0), half as wide as `width` says, lying along u."""
  radius = (length * length + width * width) / (2 * width)
  return circle(u, np.abs(v), x, width - radius, radius)


def smooth_union(a, b, blend):
  """The union, its inner corners filled over a distance `blend`."""
  h = np.maximum(np.float32(blend) - np.abs(a - b), 0)
  return np.minimum(a, b) - h * h * np.float32(0.25 / blend)


def fish(u, v):
  body = lens(u, v, 0.18, 0.85, 0.46)
  tail = np.maximum(np.abs(v) - np.float32(0.62) * (np.float32(-0.42) - u), np.float32(-0.98) - u)
  tail = np.maximum(tail * np.float32(0.85), np.float32(0.28) - circle(u, v, -1.12, 0.0, 0.0))
  fin = np.maximum(capsule(u, v, (-0.05, -0.38), (0.22, -0.44), 0.13), u - np.float32(0.35))
  return smooth_union(smooth_union(body, tail, 0.14), fin, 0.10)


def leaf(u, v):
  blade = lens(u, v, 0.15, 0.85, 0.50)
  return smooth_union(blade, capsule(u, v, (-1.0, 0.1), (-0.6, 0.0), 0.045), 0.08)


def vase(u, v):
  body = smooth_union(circle(u, v * np.float32(0.92), 0.0, 0.28, 0.60), box(u, v, 0.0, 0.82, 0.36, 0.13, 0.06), 0.1)
  neck = smooth_union(box(u, v, 0.0, -0.50, 0.19, 0.45, 0.05), box(u, v, 0.0, -0.90, 0.34, 0.075, 0.07), 0.16)
  return smooth_union(body, neck, 0.22)


def star(u, v):
  """Five rounded arms: two mirrors fold the plane onto half an arm."""
  u, v = np.abs(u), -v
  for x, y in ((0.8090170, -0.5877853), (-0.8090170, -0.5877853)):
    over = np.maximum(u * np.float32(x) + v * np.float32(y), 0) * 2
    u, v = u - over * np.float32(x), v - over * np.float32(y)
  u, v = np.abs(u), v - np.float32(0.92)
  along = np.clip(u * np.float32(0.5) - v * np.float32(0.8660254), 0, 0.72)
  u, v = u - along * np.float32(0.5), v + along * np.float32(0.8660254)
  side = np.where(u * np.float32(0.8660254) + v * np.float32(0.5) > 0, np.float32(1), np.float32(-1))
  return np.sqrt(u * u + v * v) * side - np.float32(0.10)


def cup(u, v):
  wall = box(u * (1 + np.float32(0.10) * v), v, -0.18, 0.0, 0.58, 0.72, 0.12)
  ring = np.abs(circle(u, v * np.float32(0.9), 0.46, 0.0, 0.36)) - np.float32(0.105)
  return smooth_union(wall, ring, 0.05)


def pebble(u, v):
  return circle(u, v, 0.0, 0.0, 0.8) + np.float32(0.12) * u * v


def slab(u, v):
  return box(u, v, 0.0, 0.0, 0.85, 0.55, 0.10)


def stick(u, v):
  stem, twig = capsule(u, v, (-0.95, 0.0), (0.95, 0.06), 0.085), capsule(u, v, (0.1, 0.0), (0.5, 0.4), 0.06)
  return smooth_union(stem, twig, 0.1)


@dataclass(frozen=True)
class Shape:
  """An outline with its landmarks, and how such a thing stands."""

  distance: Distance
  keypoints: dict[str, tuple[float, float]]
  tilt: float  # angles from -tilt to tilt, in revolutions
  mirrored: bool  # half of them are
  bulge: float = 0.4  # distance from the outline over which the surface curves


SHAPES = {
  "fish": Shape(
    fish,
    {"nose": (0.92, 0.0), "eye": (0.68, -0.08), "back": (0.15, -0.40), "belly": (0.15, 0.38), "tail": (-0.74, 0.0)},
    tilt=0.10,
    mirrored=True,
  ),
  "leaf": Shape(
    leaf,
    {"tip": (0.90, 0.0), "left": (0.15, -0.40), "right": (0.15, 0.40), "base": (-0.60, 0.0), "stem": (-0.97, 0.09)},
    tilt=0.15,
    mirrored=True,
    bulge=0.5,
  ),
  "vase": Shape(
    vase,
    {"lip": (0.0, -0.9), "neck": (0.0, -0.5), "left": (-0.5, 0.28), "right": (0.5, 0.28), "foot": (0.0, 0.85)},
    tilt=0.04,
    mirrored=False,
    bulge=0.5,
  ),
  "star": Shape(
    star,
    {
      "top": (0.0, -0.85),
      "right": (0.81, -0.26),
      "lower right": (0.50, 0.69),
      "lower left": (-0.50, 0.69),
      "left": (-0.81, -0.26),
    },
    tilt=0.10,
    mirrored=False,
    bulge=0.3,
  ),
  "cup": Shape(
    cup,
    {"rim left": (-0.68, -0.64), "rim right": (0.32, -0.64), "handle": (0.82, 0.0), "base left": (-0.62, 0.64),
     "base right": (0.26, 0.64)},
    tilt=0.05,
    mirrored=True,
    bulge=0.3,
  ),
}  # fmt: skip

CLUTTER = {
  "pebble": Shape(pebble, {}, tilt=0.5, mirrored=True, bulge=0.6),
  "slab": Shape(slab, {}, tilt=0.05, mirrored=False, bulge=0.12),
  "stick": Shape(stick, {}, tilt=0.5, mirrored=True, bulge=0.09),
}

N_KEYPOINTS = 5
