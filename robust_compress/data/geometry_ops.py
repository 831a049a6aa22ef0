"""Where pixels go, in numbers: what a view, a model's input or an augmentation takes of a picture, and where it lands.

    (h, w) ──viewed | fitted | random_…──▶ Geometry ──image_ops.apply──▶ pixels
                                              ├───────moved────────────▶ boxes and segmentations, moved with them
                                              └───────place────────────▶ where in the picture an input's pixels lie

    part of the picture ──resized to `size`──▶ ──cropped, black outside──▶ ──mirrored──▶

Sizes follow torchvision's PIL transforms: `Resize(int)` brings the shorter side to that many pixels and truncates the
longer one, `CenterCrop` rounds half to even. Under fit='pad' both sides are truncated, as in torchvision's detectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from robust_compress.types import IGNORED, DataError, InputSpec, View

Size = tuple[int, int]  # h, w
KEPT = 0.25  # share of a box that a training crop must leave of it; else it teaches nothing
IDENTITY = (0.0, 0.0, 1.0, 1.0)


class Window(NamedTuple):
  """A rectangle in pixels."""

  top: int
  left: int
  height: int
  width: int

  @property
  def size(self) -> Size:
    return self.height, self.width


class Geometry(NamedTuple):
  """What becomes of a picture."""

  part: Window  # of the picture, inside it
  size: Size  # to which the part is resized
  crop: Window  # of the resized part; may reach beyond it
  mirrored: bool = False


def whole(size: Size) -> Window:
  return Window(0, 0, *size)


def resized(size: Size, to: int | Size) -> Size:
  """`to` as the shorter side, or exactly `to`."""
  if not isinstance(to, int):
    return to
  height, width = size
  return (int(to * height / width), to) if width <= height else (to, int(to * width / height))


def centred(size: Size, to: int | Size) -> Window:
  """The middle `to` of a picture, on black where it is smaller."""
  to = (to, to) if isinstance(to, int) else to
  return Window(*(_centred(n, wanted) for n, wanted in zip(size, to)), *to)


def _centred(length: int, wanted: int) -> int:
  missing = max(wanted - length, 0)
  return round((length + missing - wanted) / 2) - missing // 2


# --------------------------------------------------------------------------------------- views and inputs


def viewed(size: Size, view: View) -> Geometry:
  """What the codec sees of a picture."""
  to = size if view.resize is None else resized(size, view.resize)
  return Geometry(whole(size), to, whole(to) if view.crop is None else centred(to, view.crop))


def to_input(size: Size, spec: InputSpec, view: View) -> Geometry:
  """What the model is fed of a view. Under fit='pad' the padding comes later, when a batch is made."""
  if view.input == "asis":
    return Geometry(whole(size), size, whole(size))
  if spec.fit == "pad":
    return Geometry(whole(size), to := fitted(size, spec), whole(to))
  to = size if spec.resize is None else resized(size, spec.resize)
  return Geometry(whole(size), to, centred(to, spec.size))


def fitted(size: Size, spec: InputSpec) -> Size:
  """Of a picture under fit='pad': the shorter side at `resize`, unless the longer one then exceeded `longest`."""
  if isinstance(spec.resize, tuple):
    return spec.resize
  short, long = min(size), max(size)
  scale = 1.0 if spec.resize is None else spec.resize / short
  if spec.longest is not None:
    scale = min(scale, spec.longest / long)
  return scaled(size, scale)


def scaled(size: Size, scale: float) -> Size:
  """Sides times a number, truncated; 1e-6 makes up for what division loses of a whole number."""
  height, width = (max(int(side * scale + 1e-6), 1) for side in size)
  return height, width


# ------------------------------------------------------------------------------------------ augmentations


def random_resized_crop(
  size: Size, rng: np.random.Generator, to: Size, scale: tuple[float, float], ratio: tuple[float, float]
) -> Geometry:
  """A random part of the picture, brought to `to`: Szegedy's augmentation by torchvision's algorithm.

  `scale` bounds the part's share of the area, `ratio` its width over height, drawn on a logarithmic scale.
  """
  return Geometry(random_box(size, rng, scale, ratio), to, whole(to))


def random_box(size: Size, rng: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]) -> Window:
  """Ten tries, then the largest centred box that keeps the ratio within bounds."""
  height, width = size
  for _ in range(10):
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      return Window(int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w)
  w = min(width, round(height * ratio[1]))
  h = min(height, round(width / ratio[0]))
  return Window((height - h) // 2, (width - w) // 2, h, w)


def random_zoomed_crop(size: Size, rng: np.random.Generator, to: Size, zoom: tuple[float, float]) -> Geometry:
  """A random window of the picture, brought to `to` with its proportions: z source pixels a pixel, with z drawn from
  `zoom` on a logarithmic scale, and lowered where the picture is too small. At (1, 1) nothing is resized.
  """
  low, high = (math.log(z) for z in zoom)
  z = min(math.exp(rng.uniform(low, high)), min(size[0] / to[0], size[1] / to[1]))
  height, width = (min(max(round(z * side), 1), n) for side, n in zip(to, size))
  top, left = int(rng.integers(0, size[0] - height + 1)), int(rng.integers(0, size[1] - width + 1))
  return Geometry(Window(top, left, height, width), to, whole(to))


def random_jitter(evaluated: Geometry, rng: np.random.Generator, to: Size, jitter: tuple[float, float]) -> Geometry:
  """The size of evaluation times a number drawn from `jitter`, and of that a random window of at most `to`."""
  full = scaled(evaluated.size, rng.uniform(*jitter))
  height, width = (min(side, most) for side, most in zip(full, to))
  top, left = int(rng.integers(0, full[0] - height + 1)), int(rng.integers(0, full[1] - width + 1))
  return Geometry(evaluated.part, full, Window(top, left, height, width))


# ------------------------------------------------------------------------------------------------ targets


def place(geometry: Geometry) -> np.ndarray:
  """float32[6] of an input that is not mirrored: (y0, x0, sy, sx, h, w).

  Its coordinate y is y0 + sy·y in the picture it was made of; h and w are its size, beyond which a batch is padded.
  """
  scales = [n / to for n, to in zip(geometry.part.size, geometry.size)]
  starts = [geometry.part[i] + geometry.crop[i] * scales[i] for i in range(2)]
  return np.array([*starts, *scales, *geometry.crop.size], np.float32)


def still(size: Size) -> np.ndarray:
  """`place` of an input of that size whose targets have moved with it."""
  return np.array([*IDENTITY, *size], np.float32)


def moved(target: Mapping[str, np.ndarray], geometry: Geometry, kept: float = 0.0) -> dict[str, np.ndarray]:
  """Labels after their picture went through `geometry`; those without a place in it stay as they are.

  Boxes are cut at the border; those of which no more than a share of `kept` is left are gone: label -1. Their areas
  shrink with them. A segmentation takes the class of the nearest pixel, and IGNORED outside the picture.
  """
  size = tuple(int(side) for side in target.get("size", ()))
  if size and geometry == Geometry(whole(size), size, whole(size)):
    return dict(target)
  made = dict(target)
  if "size" in target:
    made["size"] = np.array(geometry.crop.size, np.int32)
  if "boxes" in target:
    made |= _moved_boxes(target, geometry, kept)
  if "segmentation" in target:
    made["segmentation"] = _moved_classes(target["segmentation"], geometry)
  return made


def _moved_boxes(target: Mapping[str, np.ndarray], geometry: Geometry, kept: float) -> dict[str, np.ndarray]:
  y0, x0, sy, sx, height, width = place(geometry).astype(np.float64)
  boxes = (target["boxes"].astype(np.float64) - [x0, y0, x0, y0]) / [sx, sy, sx, sy]
  if geometry.mirrored:
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
  cut = np.clip(boxes, 0, [width, height, width, height])
  share = _areas(cut) / np.maximum(_areas(boxes), 1e-9)
  there = (target["box_labels"] >= 0) & (share > kept)
  made = {
    "boxes": np.where(there[:, None], cut, 0).astype(np.float32),
    "box_labels": np.where(there, target["box_labels"], -1).astype(np.int32),
  }
  if "box_areas" in target:
    made["box_areas"] = np.where(there, target["box_areas"] * share / (sx * sy), 0).astype(np.float32)
  return made


def _areas(boxes: np.ndarray) -> np.ndarray:
  return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _moved_classes(classes: np.ndarray, geometry: Geometry) -> np.ndarray:
  top, left, height, width = geometry.part
  image = Image.fromarray(classes[top : top + height, left : left + width])
  if image.size != geometry.size[::-1]:
    image = image.resize(geometry.size[::-1], Image.Resampling.NEAREST)
  made = cropped(np.asarray(image), geometry.crop, IGNORED)
  return np.ascontiguousarray(made[:, ::-1] if geometry.mirrored else made)


def cropped(array: np.ndarray, crop: Window, fill: int) -> np.ndarray:
  """A window of [h w …], filled where it reaches beyond."""
  if (
    crop.top >= 0 <= crop.left and crop.top + crop.height <= array.shape[0] and crop.left + crop.width <= array.shape[1]
  ):
    return array[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
  made = np.full((*crop.size, *array.shape[2:]), fill, array.dtype)
  spans = [_overlap(start, length, n) for start, length, n in zip(crop[:2], crop[2:], array.shape)]
  made[tuple(to for to, _ in spans)] = array[tuple(of for _, of in spans)]
  return made


def _overlap(start: int, length: int, n: int) -> tuple[slice, slice]:
  """Of a window from `start` over n entries: where what it shares with them lies in the window, and among them."""
  low, high = max(start, 0), min(start + length, n)
  return slice(low - start, max(high, low) - start), slice(low, max(high, low))


# ---------------------------------------------------------------------------------------------- canvases


def rounded_up(size: Size, multiple: int) -> Size:
  height, width = (_up(side, multiple) for side in size)
  return height, width


def _up(side: int, multiple: int) -> int:
  return -(-side // multiple) * multiple


def canvases(spec: InputSpec) -> list[Size]:
  """The sizes to which batches of unlike pictures are padded under fit='pad', from small to large.

  Few, since each is compiled: pictures at a proportion up to 3:2 and any, lying, standing and both.
  """
  if not isinstance(spec.resize, int) or spec.longest is None:
    return [rounded_up(spec.size, spec.multiple)]
  short, middle, long = (_up(side, spec.multiple) for side in (spec.resize, spec.resize * 3 // 2, spec.longest))
  sides = dict.fromkeys((min(middle, long), long))
  pairs = [pair for side in sides for pair in ((short, side), (side, short), (side, side))]
  return sorted(dict.fromkeys(pairs), key=math.prod)


def smallest(candidates: list[Size], size: Size, name: str) -> Size:
  """The first canvas that holds a picture. Raises DataError where none does."""
  height, width = size
  for canvas in candidates:
    if height <= canvas[0] and width <= canvas[1]:
      return canvas
  most = candidates[-1]
  raise DataError(
    f"{name}: {width}x{height} pixels are more than the model's input of {most[1]}x{most[0]}; use a view that makes "
    f"pictures smaller, such as resize={most[0]}x{most[1]}"
  )
