"""What a scene is, and how one is drawn from a seed.

    (seed, split, index) ──draw_scene──▶ Scene(objects, backdrop, light, camera) ──render(size, time)──▶ Rendered

A class is an outline with a fine texture. Each outline occurs with two textures and each texture on two outlines, so
neither alone names the class, and what is left of it when the texture is gone is one half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robust_compress.data.scenes.camera import Camera, Motion
from robust_compress.data.scenes.draws import Draws, turn
from robust_compress.data.scenes.shapes import CLUTTER, SHAPES, Shape

Colour = tuple[float, float, float]  # red, green, blue in [0, 1], as displayed

# (texture, shape) of every class, in label order.
KINDS = (
  ("striped", "fish"),
  ("checked", "fish"),
  ("checked", "leaf"),
  ("dotted", "leaf"),
  ("dotted", "vase"),
  ("woven", "vase"),
  ("woven", "star"),
  ("grained", "star"),
  ("grained", "cup"),
  ("striped", "cup"),
)
CLASSES = tuple(f"{texture} {shape}" for texture, shape in KINDS)
CLUTTER_LABEL = len(CLASSES)  # of things that are no class; only the semantic mask shows it

# What pictures are taken of: (beyond the horizon, ground, patches on the ground).
_PLACES: tuple[tuple[Colour, Colour, Colour], ...] = (
  ((0.68, 0.76, 0.84), (0.40, 0.45, 0.25), (0.55, 0.53, 0.32)),  # meadow
  ((0.66, 0.75, 0.82), (0.72, 0.63, 0.48), (0.60, 0.52, 0.40)),  # beach
  ((0.34, 0.38, 0.28), (0.36, 0.29, 0.21), (0.47, 0.41, 0.26)),  # forest floor
  ((0.60, 0.64, 0.68), (0.47, 0.47, 0.46), (0.58, 0.56, 0.52)),  # rock
  ((0.74, 0.70, 0.63), (0.52, 0.38, 0.26), (0.58, 0.44, 0.31)),  # a table before a wall
  ((0.56, 0.66, 0.74), (0.28, 0.40, 0.46), (0.38, 0.50, 0.53)),  # water
  ((0.70, 0.77, 0.85), (0.80, 0.82, 0.86), (0.70, 0.75, 0.82)),  # snow
  ((0.50, 0.42, 0.38), (0.42, 0.40, 0.39), (0.52, 0.47, 0.42)),  # a yard
)
_SKINS: tuple[Colour, ...] = (
  (0.66, 0.50, 0.36),
  (0.60, 0.36, 0.28),
  (0.48, 0.55, 0.36),
  (0.42, 0.52, 0.62),
  (0.70, 0.64, 0.50),
  (0.56, 0.46, 0.56),
  (0.66, 0.58, 0.34),
  (0.52, 0.52, 0.50),
)


@dataclass(frozen=True)
class Object:
  """One thing: what it is, how it rests at time 0, what it is made of, how it moves."""

  label: int  # index into CLASSES, or CLUTTER_LABEL
  shape: Shape
  texture: str  # '' for a plain surface
  position: tuple[float, float]  # of its middle, in picture coordinates
  inverse_depth: float  # 1/m
  scale: float  # picture sides per unit of the shape
  angle: float  # revolutions, clockwise as seen
  mirror: float  # -1 where mirrored
  aspect: float  # width over height, relative to the shape's own
  skin: Colour
  shade: Colour  # towards which the skin is mottled
  wavelength: float  # of the texture, picture sides
  texture_angle: float  # revolutions, against the object's own axes
  contrast: float  # standard deviation of the texture, relative to the skin
  motion: Motion
  stream: int  # of its own draws: the grain of its texture, the place of its mottling


@dataclass(frozen=True)
class Backdrop:
  """The ground, a plane that runs to the horizon, and what is beyond."""

  horizon: float  # y in picture coordinates
  slope: float  # inverse metres per picture side: how fast the ground comes near below the horizon
  far: float  # inverse metres, of what is beyond
  haze: float  # picture sides over which the ground fades into what is beyond
  place: tuple[Colour, Colour, Colour]
  roughness: float  # standard deviation of the luminance noise
  gain: float  # of its octaves
  edge: float  # steepness of the borders of patches

  def inverse_depth(self, y: float) -> float:
    return max(self.far, (y - self.horizon) * self.slope)


@dataclass(frozen=True)
class Light:
  """The sun, the sky and the sensor."""

  direction: tuple[float, float, float]  # to the light: right, down, towards the camera; unit length
  ambient: float  # share of light from everywhere
  tint: Colour
  exposure: float
  vignette: float  # loss of light in the corners
  blur: float  # weight of each neighbour in the three-tap blur of lens and sensor
  noise: float  # standard deviation of sensor noise, in grey levels of 255


@dataclass(frozen=True)
class Scene:
  key: tuple[int, int, int]  # seed, split, index
  objects: tuple[Object, ...]  # the main one first; no two at one depth
  backdrop: Backdrop
  light: Light
  camera: Camera

  @property
  def label(self) -> int:
    """Class of the main object."""
    return self.objects[0].label


def draw_scene(key: tuple[int, int, int], n_objects: int = 1, n_clutter: int = 4, label: int | None = None) -> Scene:
  """The scene of `key`, a pure function of its arguments.

  The first of `n_objects` is the main one, of class `label` where given; the others are smaller, of any class. Among
  them lie `n_clutter` things of no class.
  """
  backdrop, light = _draw_backdrop(Draws(key, 1)), _draw_light(Draws(key, 2))
  objects = []
  for i in range(n_objects):
    draws = Draws(key, 16 + i)
    kind = draws.integer(len(KINDS)) if i or label is None else label
    objects.append(_draw_object(draws, backdrop, kind, 16 + i, main=i == 0))
  objects += [_draw_clutter(Draws(key, 1024 + i), backdrop, 1024 + i) for i in range(n_clutter)]
  return Scene(key, tuple(objects), backdrop, light, _draw_camera(Draws(key, 3)))


def _draw_backdrop(draws: Draws) -> Backdrop:
  horizon = draws.uniform(-0.45, -0.1)
  near = draws.uniform(0.4, 0.9)  # inverse metres at the lower edge
  return Backdrop(
    horizon=horizon,
    slope=near / (0.5 - horizon),
    far=draws.uniform(0.01, 0.04),
    haze=draws.log_uniform(0.02, 0.25),
    place=draws.choice(_PLACES),
    roughness=draws.log_uniform(0.05, 0.13),
    gain=draws.uniform(0.88, 1.04),
    edge=draws.log_uniform(0.3, 3.0),
  )


def _draw_light(draws: Draws) -> Light:
  (x, y), height = turn(draws.uniform(0.55, 0.95)), draws.uniform(0.45, 0.8)
  warmth = draws.uniform(-0.06, 0.06)
  flat = math.sqrt(1 - height * height)
  return Light(
    direction=(x * flat, y * flat, height),
    ambient=draws.uniform(0.2, 0.55),
    tint=(1 + warmth, 1.0, 1 - warmth),
    exposure=draws.uniform(0.8, 1.2),
    vignette=draws.uniform(0.0, 0.6),
    blur=draws.uniform(0.0, 0.08),
    noise=draws.log_uniform(0.8, 2.5),
  )


def _draw_camera(draws: Draws) -> Camera:
  timing = Motion(period=draws.uniform(24, 48), phase=draws.uniform())
  pan = (draws.uniform(-0.03, 0.03), draws.uniform(-0.02, 0.02))
  return Camera(pan, draws.uniform(-0.04, 0.04), draws.uniform(-0.08, 0.08), timing)


def _draw_motion(draws: Draws) -> Motion:
  return Motion(
    sway=(draws.uniform(-0.08, 0.08), draws.uniform(-0.04, 0.04)),
    spin=draws.uniform(-0.03, 0.03),
    approach=draws.uniform(-0.06, 0.06),
    period=draws.uniform(16, 40),
    phase=draws.uniform(),
  )


def _draw_object(draws: Draws, backdrop: Backdrop, label: int, stream: int, main: bool) -> Object:
  texture, name = KINDS[label]
  spread = 0.10 if main else 0.38
  return _placed(
    draws,
    backdrop,
    label=label,
    shape=SHAPES[name],
    texture=texture,
    position=(draws.uniform(-spread, spread), draws.uniform(-0.6 * spread, spread)),
    scale=draws.uniform(0.28, 0.40) if main else draws.uniform(0.12, 0.22),
    aspect=draws.log_uniform(0.85, 1.18),
    wavelength=draws.log_uniform(3.0, 5.2) / 160,
    contrast=draws.log_uniform(0.09, 0.16),
    stream=stream,
  )


def _draw_clutter(draws: Draws, backdrop: Backdrop, stream: int) -> Object:
  return _placed(
    draws,
    backdrop,
    label=CLUTTER_LABEL,
    shape=CLUTTER[draws.choice(tuple(CLUTTER))],
    texture="",
    position=(draws.uniform(-0.5, 0.5), draws.uniform(backdrop.horizon + 0.1, 0.5)),
    scale=draws.log_uniform(0.04, 0.16),
    aspect=draws.log_uniform(0.7, 1.4),
    wavelength=1.0,
    contrast=0.0,
    stream=stream,
  )


def _placed(draws: Draws, backdrop: Backdrop, *, shape: Shape, position, scale: float, **fields) -> Object:
  """Things stand on the ground: as near as it is at their lowest point, and nearer by a margin for their motion."""
  motion = _draw_motion(draws)
  lowest = position[1] + 1.1 * scale + 2 * abs(motion.sway[1])
  nearer = draws.uniform(1.02, 1.25) * (1 + 2 * abs(motion.approach))
  return Object(
    shape=shape,
    position=position,
    inverse_depth=backdrop.inverse_depth(lowest) * nearer,
    scale=scale,
    angle=draws.uniform(-shape.tilt, shape.tilt),
    mirror=draws.sign() if shape.mirrored else 1.0,
    skin=_varied(draws, draws.choice(_SKINS)),
    shade=_varied(draws, draws.choice(backdrop.place)),
    texture_angle=draws.uniform(0.0, 0.125),
    motion=motion,
    **fields,
  )


def _varied(draws: Draws, colour: Colour) -> Colour:
  light = draws.uniform(0.6, 1.25)
  red, green, blue = (c * light * draws.uniform(0.93, 1.07) for c in colour)
  return red, green, blue
