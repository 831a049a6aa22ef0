"""Boxes and masks over pictures, by Pillow.

    pixels ──scaled──▶ at a size at which lines and names can be read ──objects──▶ framed and named, or tinted by class

A class has the same colour wherever it is drawn.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

IGNORED = 255  # pixels that do not count
LEAST, MOST = 256, 512  # pixels of the longer side, that smaller pictures are magnified to and larger ones reduced to
_OPACITY = 0.55  # of a mask
_GREY = (150, 150, 150)  # of what is not scored
_GOLDEN = 0.6180339887498949  # turns of hue from one class to the next, which keep any number of them apart

Named = Callable[[int], str]  # of a label


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
    return _masked(image, objects["segmentation"])
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
def colour(label: int) -> tuple[int, int, int]:
  """Of a class; successive ones differ most in hue, and every other ring is darker."""
  ring = label // 8 % 3
  red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, (0.85, 0.6, 0.95)[ring], (0.95, 1.0, 0.65)[ring])
  return round(255 * red), round(255 * green), round(255 * blue)


def classes_in(objects: Mapping[str, np.ndarray]) -> dict[int, int]:
  """{label: pixels} of a segmentation; {} of boxes."""
  labels, counts = np.unique(objects.get("segmentation", ()), return_counts=True)
  return {int(label): int(n) for label, n in zip(labels, counts) if label != IGNORED}


# ------------------------------------------------------------------------------------------------- boxes


def _boxed(
  image: Image.Image, scale: float, objects: Mapping[str, np.ndarray], named: Named, score: float
) -> np.ndarray:
  draw, boxes, labels = ImageDraw.Draw(image), objects["boxes"] * scale, objects["labels"]
  kinds = objects.get("kinds", np.zeros(len(boxes), np.uint8))
  scores = objects.get("scores")
  order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")  # the surest on top
  for i in order:
    if labels[i] < 0 or (scores is not None and scores[i] < score):
      continue
    ink = colour(int(labels[i])) if kinds[i] == 0 else _GREY
    said = named(int(labels[i])) + ("" if scores is None else f" {100 * scores[i]:.0f}")
    _box(draw, tuple(map(float, boxes[i])), ink, said if kinds[i] == 0 else f"{said}, not scored")
  return np.asarray(image)


def _box(draw: ImageDraw.ImageDraw, box: tuple[float, ...], ink: tuple[int, int, int], text: str) -> None:
  """A frame around the box, and its name above it, or inside where the picture ends."""
  width, height = draw.im.size
  x0, y0, x1, y1 = (min(max(round(at), 0), end - 1) for at, end in zip(box, (width, height) * 2))
  draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=ink, width=2)
  left, top, right, bottom = draw.textbbox((0, 0), text, font=_font())
  wide, high = right - left + 4, bottom - top + 4
  x, y = max(0, min(x0, width - wide)), y0 - high + 1 if y0 >= high else y0
  draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=ink)
  draw.text((x + 2 - left, y + 2 - top), text, fill=_readable_on(ink), font=_font())


def _readable_on(ink: tuple[int, int, int]) -> str:
  return "black" if np.dot(ink, (0.299, 0.587, 0.114)) > 140 else "white"


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
  return ImageFont.load_default(11)


# ------------------------------------------------------------------------------------------------- masks


def _masked(image: Image.Image, classes: np.ndarray) -> np.ndarray:
  """Every pixel that counts is tinted by its class, and borders between classes are dark."""
  classes = np.asarray(Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST))
  palette = np.array([colour(label) for label in range(256)], np.float32)
  pixels = np.asarray(image).astype(np.float32)
  share = np.where(classes == IGNORED, 0, _OPACITY).astype(np.float32)[..., None]
  tinted = (1 - share) * pixels + share * palette[classes]
  tinted[_borders(classes)] *= 0.35
  return tinted.round().astype(np.uint8)


def _borders(classes: np.ndarray) -> np.ndarray:
  border = np.zeros(classes.shape, bool)
  border[:, 1:] |= classes[:, 1:] != classes[:, :-1]
  border[1:] |= classes[1:] != classes[:-1]
  return border
