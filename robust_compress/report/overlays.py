"""Boxes and masks over pictures, by Pillow.

    pixels ──scaled──▶ at a size at which lines and names can be read ──objects──▶ framed and named, or tinted by class

A class has the same colour wherever it is drawn.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robust_compress.types import IGNORED

LEAST, MOST = 256, 512  # pixels of the longer side, that smaller pictures are magnified to and larger ones reduced to
_OPACITY = 0.55  # of a mask
_GREY = (150, 150, 150)  # of what is not scored
_GOLDEN = 0.6180339887498949  # turns of hue from one class to the next, which keep any number of them apart

Named = Callable[[int], str]  # of a label
_Ink = tuple[int, int, int]
_Area = tuple[int, int, int, int]  # x0, y0, x1, y1, all of them inside


def drawn(pixels: np.ndarray, objects: Mapping[str, np.ndarray], named: Named, score: float) -> np.ndarray:
  """uint8[H W 3]: a picture uint8[h w 3], scaled, with what is in it.

  Args:
    pixels: the picture.
    objects: 'boxes' float32[k 4] in its pixels and 'labels' int[k], with 'scores' float32[k] where they were found and
      'kinds' uint8[k], 0 being what is scored, where they are the truth; or 'segmentation' uint8[h w].
    named: what labels are called.
    score: boxes below it are not drawn.
  """
  image = scaled(pixels)
  if "segmentation" in objects:
    return _masked(image, objects["segmentation"], {label for label in classes_in(objects) if is_ground(named(label))})
  return _boxed(image, image.width / pixels.shape[1], objects, named, score)


def scaled(pixels: np.ndarray) -> Image.Image:
  """Small pictures so many times as large, pixel for pixel; large ones reduced."""
  image = Image.fromarray(pixels)
  side = max(image.size)
  if side > MOST:
    size = tuple(max(1, round(length * MOST / side)) for length in image.size)
    return image.resize(size, Image.Resampling.LANCZOS)
  times = -(-LEAST // side)
  return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


@functools.cache
def colour(label: int) -> _Ink:
  """Of a class; successive ones differ most in hue, and every other ring is darker."""
  ring = label // 8 % 3
  red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, (0.85, 0.6, 0.95)[ring], (0.95, 1.0, 0.65)[ring])
  return round(255 * red), round(255 * green), round(255 * blue)


def is_ground(name: str) -> bool:
  """Whether a class is what is left between objects, which no colour covers."""
  return name.strip("_").lower() == "background"


def classes_in(objects: Mapping[str, np.ndarray]) -> dict[int, int]:
  """{label: pixels} of a segmentation; {} of boxes."""
  labels, counts = np.unique(objects.get("segmentation", ()), return_counts=True)
  return {int(label): int(n) for label, n in zip(labels, counts) if label != IGNORED}


# ------------------------------------------------------------------------------------------------- boxes


def _boxed(
  image: Image.Image, scale: float, objects: Mapping[str, np.ndarray], named: Named, score: float
) -> np.ndarray:
  """All frames, those of high scores on top; then their names, those of high scores where they belong."""
  n, scores = len(objects["boxes"]), objects.get("scores")
  sure = np.ones(n) if scores is None else scores
  kinds = objects.get("kinds", np.zeros(n, np.uint8))
  best_first = [i for i in np.argsort(-sure, kind="stable") if objects["labels"][i] >= 0 and sure[i] >= score]
  draw, frames = ImageDraw.Draw(image), {i: _frame(objects["boxes"][i] * scale, image.size) for i in best_first}
  inks = {i: _GREY if kinds[i] else colour(int(objects["labels"][i])) for i in best_first}
  for i in reversed(best_first):
    draw.rectangle(frames[i], outline=inks[i], width=2)
  tags: list[_Area] = []
  for i in best_first:
    said = "" if scores is None else f" {100 * scores[i]:.0f}"
    text = named(int(objects["labels"][i])) + (", not scored" if kinds[i] else said)
    tags += _tag(draw, frames[i], inks[i], text, tags)
  return np.asarray(image)


def _frame(box: np.ndarray, size: tuple[int, int]) -> _Area:
  x0, y0, x1, y1 = (min(max(round(float(at)), 0), end - 1) for at, end in zip(box, size * 2))
  return x0, y0, max(x0, x1), max(y0, y1)


def _tag(draw: ImageDraw.ImageDraw, frame: _Area, ink: _Ink, text: str, taken: Sequence[_Area]) -> list[_Area]:
  """A name above its frame, within it or below, where the picture and other names leave room; [] where they do not."""
  left, top, right, bottom = draw.textbbox((0, 0), text, font=_font())
  wide, high = right - left + 4, bottom - top + 4
  x = max(0, min(frame[0], draw.im.size[0] - wide))
  for y in (frame[1] - high + 1, frame[1], frame[1] + high, frame[3], frame[3] - high):
    area = x, y, x + wide - 1, y + high - 1
    if y >= 0 and area[3] < draw.im.size[1] and not any(_overlap(area, other) for other in taken):
      draw.rectangle(area, fill=ink)
      draw.text((x + 2 - left, y + 2 - top), text, fill=_readable_on(ink), font=_font())
      return [area]
  return []


def _overlap(one: _Area, other: _Area) -> bool:
  return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _readable_on(ink: _Ink) -> str:
  return "black" if np.dot(ink, (0.299, 0.587, 0.114)) > 140 else "white"


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
  return ImageFont.load_default(12)


# ------------------------------------------------------------------------------------------------- masks


def _masked(image: Image.Image, classes: np.ndarray, bare: set[int]) -> np.ndarray:
  """Every pixel that counts is tinted by its class, unless that is bare, and borders between classes are dark."""
  classes = np.asarray(Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST))
  palette = np.array([colour(label) for label in range(256)], np.float32)
  pixels = np.asarray(image).astype(np.float32)
  share = np.where(np.isin(classes, [IGNORED, *bare]), 0, _OPACITY).astype(np.float32)[..., None]
  tinted = (1 - share) * pixels + share * palette[classes]
  tinted[_borders(classes)] *= 0.35
  return tinted.round().astype(np.uint8)


def _borders(classes: np.ndarray) -> np.ndarray:
  border = np.zeros(classes.shape, bool)
  border[:, 1:] |= classes[:, 1:] != classes[:, :-1]
  border[1:] |= classes[1:] != classes[:-1]
  return border
