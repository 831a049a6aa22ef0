"""Objects on the pixel grid: where each one is at a moment, and which pixels it covers.

    Scene ──lay_out(size, time)──▶ [Layer far, ..., Layer near]

A layer keeps the surface coordinates (u, v) and the distance to the outline of every pixel in a box around its object.
Paint, shadow, masks, keypoints and flow are all read from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robust_compress.data.scenes.camera import View, pixel_centres
from robust_compress.data.scenes.draws import turn
from robust_compress.data.scenes.scene import Object, Scene

_MARGIN = 1.3  # of an object's scale, around its middle: the outline and its shadow
REACH = 0.16  # of an object's scale: how far its shadow falls and fades


@dataclass(frozen=True)
class Pose:
  """Where an object is at one moment: picture = middle + axes @ (u, v)."""

  x: float
  y: float
  axes: tuple[float, float, float, float]  # dx/du, dx/dv, dy/du, dy/dv
  scale: float
  inverse_depth: float

  @classmethod
  def of(cls, thing: Object, view: View, time: float) -> Pose:
    swing = thing.motion.swing(time)
    nearer = 1 / (1 + thing.motion.approach * swing)
    x, y = (p + s * swing for p, s in zip(thing.position, thing.motion.sway, strict=True))
    cosine, sine = turn(thing.angle + thing.motion.spin * swing)
    scale = thing.scale * nearer * view.zoom
    wide, high = scale * thing.mirror * math.sqrt(thing.aspect), scale / math.sqrt(thing.aspect)
    axes = (cosine * wide, -sine * high, sine * wide, cosine * high)
    inverse_depth = thing.inverse_depth * nearer
    return cls(*view.project(x, y, inverse_depth), axes, scale, inverse_depth)

  def to_picture(self, u, v):
    a, b, c, d = (np.float32(x) for x in self.axes)
    return a * u + b * v + np.float32(self.x), c * u + d * v + np.float32(self.y)

  def to_local(self, x, y):
    a, b, c, d = self.axes
    over = 1 / (a * d - b * c)
    x, y = x - np.float32(self.x), y - np.float32(self.y)
    u = np.float32(d * over) * x - np.float32(b * over) * y
    v = np.float32(a * over) * y - np.float32(c * over) * x
    return u, v


@dataclass(frozen=True)
class Layer:
  """One object on its part of the pixel grid, which may stick out of the picture."""

  index: int  # into scene.objects
  thing: Object
  pose: Pose
  top: int
  left: int
  u: np.ndarray  # float32[h w], and so are the others
  v: np.ndarray
  distance: np.ndarray  # picture sides; negative inside
  coverage: np.ndarray  # in [0, 1]

  def inside(self, size: int, down: int = 0, right: int = 0) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the picture and of this layer that fall on each other, the layer moved by (down, right) pixels."""
    frame, own = [], []
    for start, n in zip((self.top + down, self.left + right), self.distance.shape, strict=True):
      first, last = max(start, 0), min(start + n, size)
      frame.append(slice(first, max(last, first)))
      own.append(slice(first - start, max(last, first) - start))
    return tuple(frame), tuple(own)


def lay_out(scene: Scene, size: int, time: float) -> list[Layer]:
  """The objects that may be seen, far to near."""
  view = scene.camera.at(time)
  poses = [Pose.of(thing, view, time) for thing in scene.objects]
  order = sorted(range(len(poses)), key=lambda i: poses[i].inverse_depth)
  layers = (_layer(i, scene.objects[i], poses[i], size) for i in order)
  return [layer for layer in layers if layer.distance.size]


def _layer(index: int, thing: Object, pose: Pose, size: int) -> Layer:
  reach = _MARGIN * pose.scale * math.sqrt(max(thing.aspect, 1 / thing.aspect))
  pad = int(REACH * pose.scale * size) + 2
  bounds = []
  for middle in (pose.x, pose.y):
    low, high = (int((middle + side * reach + 0.5) * size) for side in (-1, 1))
    bounds.append((max(low, -pad), max(min(high + 1, size + pad), max(low, -pad))))
  (left, right), (top, bottom) = bounds
  u, v = pose.to_local(pixel_centres(left, right, size), pixel_centres(top, bottom, size)[:, None])
  distance = thing.shape.distance(u, v) * np.float32(pose.scale)
  coverage = np.clip(np.float32(0.5) - distance * np.float32(size), 0, 1)
  return Layer(index, thing, pose, top, left, u, v, distance, coverage)
