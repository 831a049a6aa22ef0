"""How far a coded picture is from its original: PSNR and MS-SSIM, as rate–distortion curves are published with them.

    uint8[t h w 3], uint8[t h w 3] ──mse──▶ psnr           decibels over all samples
                                   ──ms_ssim──▶ 0…1        five scales, each half the size of the one before

Pictures are compared in RGB, as they are: nothing is converted to luma or to floats first.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from robust_compress.types import Clip, DataError

VERSION = "1"  # raised when a function here would return other numbers than before
MIN_SIDE = 161  # below it the fifth scale is smaller than the window
_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # of the scales, fine to coarse
_RADIUS, _SIGMA = 5, 1.5
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1.0) ** 2) / (2 * _SIGMA**2))
_WINDOW /= _WINDOW.sum()
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_STRIPE = 128  # rows worked on at a time: they fit a cache, and memory does not grow with the picture


def mse(a: Clip, b: Clip) -> float:
  """Mean squared error over all samples of two uint8[t h w 3] clips. Raises DataError where their shapes differ."""
  _check(a, b)
  total = 0
  for one, other in zip(a, b):
    difference = one.astype(np.int16) - other
    total += int(np.square(difference, dtype=np.int32).sum(dtype=np.int64))
  return total / a.size


def psnr(a: Clip, b: Clip) -> float:
  """Peak signal-to-noise ratio in dB over all samples of two uint8[t h w 3] clips; inf where they are equal."""
  return psnr_of(mse(a, b))


def psnr_of(error: float) -> float:
  """The PSNR in dB of a mean squared error of 8-bit samples."""
  return 10 * math.log10(255**2 / error) if error > 0 else math.inf


def ms_ssim(a: Clip, b: Clip) -> float:
  """Multi-scale structural similarity of two uint8[t h w 3] clips: the mean over frames and channels.

  Wang, Simoncelli and Bovik (2003), computed as pytorch-msssim does, by which learned codecs are measured: 11x11
  Gaussian window of deviation 1.5 without padding, means of 2x2 samples between the scales with a row or column of
  zeros before an odd side, negative contrast terms set to zero.

  Returns:
    1 for equal clips; NaN where a side is under `MIN_SIDE` pixels, for which five scales are not defined.

  Raises:
    DataError: clips of different shapes.
  """
  _check(a, b)
  if min(a.shape[1:3]) < MIN_SIDE:
    return math.nan
  planes = ((one[..., c], other[..., c]) for one, other in zip(a, b) for c in range(3))
  return float(np.mean([_plane(x, y) for x, y in planes]))


def decibels(similarity: float) -> float:
  """MS-SSIM as curves are drawn: -10 log10(1 - similarity), in which 0.99 is 20 dB. NaN stays NaN."""
  return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _check(a: Clip, b: Clip) -> None:
  for clip in (a, b):
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or clip.size == 0:
      raise DataError(f"cannot compare {clip.dtype}{list(clip.shape)}; expected uint8[t h w 3], not empty")
  if a.shape != b.shape:
    raise DataError(f"cannot compare {list(a.shape)} with {list(b.shape)}; expected clips of one size")


def _plane(x: np.ndarray, y: np.ndarray) -> float:
  """MS-SSIM of two planes uint8[h w]."""
  x, y = x.astype(np.float32), y.astype(np.float32)  # sums of up to 256 bytes over 256: exact at every scale
  terms = []
  for scale in range(len(_WEIGHTS)):
    if scale:
      x, y = _halved(x), _halved(y)
    similarity, contrast = _ssim(x, y)
    terms.append(contrast if scale < len(_WEIGHTS) - 1 else similarity)
  return float(np.prod(np.maximum(terms, 0) ** _WEIGHTS))


def _halved(plane: np.ndarray) -> np.ndarray:
  """Means of 2x2 samples."""
  plane = np.pad(plane, [(side % 2, 0) for side in plane.shape])
  return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def _ssim(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
  """(mean SSIM, mean of its contrast and structure term) over the places where the window fits."""
  rows, columns = (side - 2 * _RADIUS for side in x.shape)
  similarity = contrast = 0.0
  for top in range(0, rows, _STRIPE):
    stripe = slice(top, min(top + _STRIPE, rows) + 2 * _RADIUS)
    ssim_map, contrast_map = _maps(x[stripe].astype(np.float64), y[stripe].astype(np.float64))
    similarity += float(ssim_map.sum())
    contrast += float(contrast_map.sum())
  return similarity / (rows * columns), contrast / (rows * columns)


def _maps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  mean_x, mean_y = _blurred(x), _blurred(y)
  product = mean_x * mean_y
  squares = mean_x**2 + mean_y**2
  contrast = (2 * (_blurred(x * y) - product) + _C2) / (_blurred(x**2 + y**2) - squares + _C2)
  return (2 * product + _C1) / (squares + _C1) * contrast, contrast


def _blurred(plane: np.ndarray) -> np.ndarray:
  """The Gaussian mean of float64[h w] at the [h-10 w-10] places where its window fits."""
  for axis in (0, 1):
    plane = ndimage.correlate1d(plane, _WINDOW, axis)
    plane = plane[_RADIUS:-_RADIUS] if axis == 0 else plane[:, _RADIUS:-_RADIUS]
  return plane
