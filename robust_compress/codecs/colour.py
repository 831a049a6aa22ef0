"""Colour of a BPG picture: RGB to the planes that HEVC codes, and back.

    rgb[h w 3] ──to_ycbcr──▶ y, cb, cr[h w] ──halved──▶ cb, cr[h/2 w/2]
    rgb[h w 3] ◀────────────── to_rgb ◀──────────────── y, cb, cr of any layout

Integer arithmetic throughout, with the constants, filters and roundings of Bellard's programs, so that pixels equal
those of bpgdec. Chroma of half height (4:2:0) lies between the lines; of half width, between the columns as in JPEG, or
on every other column as in MPEG-2 (`cosited`). Beyond its edge a plane goes on with its last sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SPACES = ("YCbCr BT.601", "RGB", "YCgCo", "YCbCr BT.709", "YCbCr BT.2020")  # by their number in a BPG header
_LUMA_OF_RED_AND_BLUE = {0: (0.299, 0.114), 3: (0.2126, 0.0722), 4: (0.2627, 0.0593)}
_RGB, _YCGCO = 1, 2

_HALF = (2, -4, -8, 17, 57, 57, 17, -8, -4, 2)  # of 128; from samples 2i-4 … 2i+5
_BEFORE = (2, -6, 18, 57, -10, 4, -1)  # of 64; the fine sample a quarter step before a coarse one
_AFTER = _BEFORE[::-1]  # and the one a quarter step after it
_BETWEEN = (-1, 4, -11, 40, 40, -11, 4, -1)  # of 64; half way between two coarse ones
_KEPT = 14  # bits of a sample between the two passes of a filter
_ROWS = 64  # converted at a time: what is in between stays in the processor's cache


class Layout(NamedTuple):
  """How samples stand for colours."""

  depth: int = 8  # bits of a sample
  chroma: int = 420  # 400 (grey), 420, 422, 444
  cosited: bool = False  # columns of halved chroma, see above
  space: int = 0  # of SPACES
  limited: bool = False  # luma from 16 to 235, chroma from 16 to 240, at 8 bits


def chroma_shape(layout: Layout, shape: tuple[int, int]) -> tuple[int, int]:
  """(h, w) of the chroma planes of a picture of (h, w)."""
  height, width = shape
  return (height + 1) // 2 if layout.chroma == 420 else height, (width + 1) // 2 if layout.chroma < 444 else width


# ------------------------------------------------------------------------------------------- to be coded


def to_ycbcr(rgb: np.ndarray, depth: int = 8) -> list[np.ndarray]:
  """uint8[h w 3] to y, cb, cr: BT.601, full range, uint16[h w] each."""
  k_r, k_b = _LUMA_OF_RED_AND_BLUE[0]
  k_g = 1 - k_r - k_b
  matrix = [
    (k_r, k_g, k_b),
    (-0.5 * k_r / (1 - k_b), -0.5 * k_g / (1 - k_b), 0.5),
    (0.5, -0.5 * k_g / (1 - k_r), -0.5 * k_b / (1 - k_r)),
  ]
  shift, white = 31 - depth, (1 << depth) - 1
  scale = white * (1 << shift) / 255
  planes = [np.empty(rgb.shape[:2], np.uint16) for _ in matrix]
  for top in range(0, len(rgb), _ROWS):
    rows = rgb[top : top + _ROWS].astype(np.int32)
    for plane, weights, centre in zip(planes, matrix, (0, 1 << (depth - 1), 1 << (depth - 1)), strict=True):
      total = sum(round(k * scale) * rows[..., i] for i, k in enumerate(weights))
      _clip(_rounded(total, shift) + centre, white, plane[top : top + _ROWS])
  return planes


def to_grey(grey: np.ndarray, depth: int = 8) -> np.ndarray:
  """uint8[h w], the value that all three channels share, to luma uint16[h w]."""
  shift, white = 31 - depth, (1 << depth) - 1
  return _rounded(grey.astype(np.int64) * round(white * (1 << shift) / 255), shift).astype(np.uint16)


def halved(plane: np.ndarray, depth: int = 8) -> np.ndarray:
  """uint16[h w] to uint16[(h+1)//2 (w+1)//2], each sample between the four that it stands for."""
  across = _rounded(_filtered(_extended(plane, _HALF, axis=1), _HALF, axis=1, step=2), depth + 7 - _KEPT)
  down = _rounded(_filtered(_extended(across, _HALF, axis=0), _HALF, axis=0, step=2), _KEPT + 7 - depth)
  return _clip(down, (1 << depth) - 1, np.empty(down.shape, np.uint16))


# ---------------------------------------------------------------------------------------------- to be seen


def to_rgb(planes: Sequence[np.ndarray], layout: Layout) -> np.ndarray:
  """Luma [h w] and its two chroma planes, if any, of unsigned samples below 2**depth, to uint8[h w 3]."""
  luma, *chroma = planes
  rgb = np.empty((*luma.shape, 3), np.uint8)
  for top in range(0, len(luma), _ROWS):
    rows = slice(top, min(top + _ROWS, len(luma)))
    strip = [luma[rows], *(_chroma_rows(plane, rows, luma.shape[1], layout) for plane in chroma)]
    _strip_to_rgb(strip, layout, rgb[rows])
  return rgb


def _strip_to_rgb(planes: Sequence[np.ndarray], layout: Layout, out: np.ndarray) -> None:
  """Planes [h w] at full size into uint8[h w 3]. Fixed point of 22 bits; only limited range needs more than 31."""
  shift, depth = 22, layout.depth
  luma_range, chroma_range = (219 << (depth - 8), 224 << (depth - 8)) if layout.limited else 2 * ((1 << depth) - 1,)
  luma_scale, chroma_scale = 255 * (1 << shift) / luma_range, 255 * (1 << shift) / chroma_range
  one = round(luma_scale)
  black = (1 << shift >> 1) - (one * (16 << (depth - 8)) if layout.limited else 0)
  y, *chroma = (plane.astype(np.int64 if layout.limited else np.int32) for plane in planes)
  if layout.chroma == 400:
    channels = [y * one + black] * 3
  elif layout.space == _RGB:
    blue, red = chroma
    channels = [sample * one + black for sample in (red, y, blue)]
  elif layout.space == _YCGCO:
    green, orange = (sample - (1 << (depth - 1)) for sample in chroma)
    channels = [sample * one + black for sample in (y - green + orange, y + green, y - green - orange)]
  else:
    k_r, k_b = _LUMA_OF_RED_AND_BLUE[layout.space]
    cb, cr = (sample - (1 << (depth - 1)) for sample in chroma)
    k_g, base = 1 - k_b - k_r, y * one + black
    to_red, to_blue = round(2 * (1 - k_r) * chroma_scale), round(2 * (1 - k_b) * chroma_scale)
    cb_green, cr_green = (round(2 * k * (1 - k) / k_g * chroma_scale) for k in (k_b, k_r))
    channels = [base + to_red * cr, base - cb_green * cb - cr_green * cr, base + to_blue * cb]
  for index, channel in enumerate(channels):
    _clip(channel >> shift, 255, out[..., index])


def _chroma_rows(plane: np.ndarray, rows: slice, width: int, layout: Layout) -> np.ndarray:
  """Rows `rows`, from an even one, of a chroma plane as it is at full size."""
  if layout.chroma == 444:
    return plane[rows]
  white = (1 << layout.depth) - 1
  if layout.chroma == 422:
    return _doubled_across(plane[rows], width, 0, white, layout.cosited)
  first, end = rows.start // 2, (rows.stop + 1) // 2
  coarse = plane[np.clip(np.arange(first - 3, end + 3), 0, len(plane) - 1)]
  fine = (_rounded(_filtered(coarse, taps, axis=0), layout.depth + 6 - _KEPT) for taps in (_BEFORE, _AFTER))
  doubled = _interleaved(*fine, axis=0)[: rows.stop - rows.start]
  return _doubled_across(doubled, width, _KEPT - layout.depth, white, layout.cosited)


def _doubled_across(rows: np.ndarray, width: int, n_bits: int, white: int, cosited: bool) -> np.ndarray:
  """[h w/2] samples that carry `n_bits` fractional bits to samples [h width] that carry none."""
  if cosited:
    first = _rounded(rows.astype(np.int32), n_bits)
    second = _rounded(_filtered(_extended(rows, _BETWEEN, axis=1), _BETWEEN, axis=1), n_bits + 6)
  else:
    extended = _extended(rows, _AFTER, axis=1)
    first, second = (_rounded(_filtered(extended, taps, axis=1), n_bits + 6) for taps in (_BEFORE, _AFTER))
  fine = _interleaved(first, second, axis=1)[:, :width]
  return np.clip(fine, 0, white, out=fine)


# --------------------------------------------------------------------------------------------- arithmetic


def _extended(plane: np.ndarray, taps: Sequence[int], axis: int) -> np.ndarray:
  """The plane with its edges repeated as far as a filter reaches."""
  reach = [(0, 0), (0, 0)]
  reach[axis] = (len(taps) - 1) // 2, len(taps) // 2
  return np.pad(plane, reach, "edge")


def _filtered(extended: np.ndarray, taps: Sequence[int], axis: int, step: int = 1) -> np.ndarray:
  """Correlation with the taps at every step-th position, int32."""
  samples = np.moveaxis(extended.astype(np.int32), axis, 0)
  n = len(samples) - len(taps) + 1
  total = taps[0] * samples[:n:step]
  product = np.empty_like(total)
  for i, tap in enumerate(taps[1:], 1):
    total += np.multiply(samples[i : i + n : step], tap, out=product)
  return np.moveaxis(total, 0, axis)


def _interleaved(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
  """first[0], second[0], first[1], second[1], … along an axis."""
  return np.stack([first, second], axis + 1).reshape([n * (1 + (i == axis)) for i, n in enumerate(first.shape)])


def _rounded(total: np.ndarray, n_bits: int) -> np.ndarray:
  return (total + (1 << n_bits >> 1)) >> n_bits


def _clip(values: np.ndarray, white: int, out: np.ndarray) -> np.ndarray:
  return np.clip(values, 0, white, out=out, casting="unsafe")
