"""What surfaces are made of: fine textures that carry class evidence, and noise with the spectrum of nature.

    striped   one wave                       checked   two crossed waves
    dotted    three waves at 120 degrees     woven     one wave in squares, alternately crosswise
    grained   noise drawn out along one direction, the same band as the waves

All fine textures have mean 0, variance 1 and their energy at one spatial frequency, so that neither brightness, nor
contrast, nor coarse structure tells them apart: what does is lost first when a picture is compressed.

Everything here is made of additions, multiplications, `floor` and comparisons, which IEEE 754 rounds in one way only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robust_compress.data.scenes.draws import Draws

_COARSEST = 3  # samples a side of the coarsest octave of noise
_GRAIN = 32  # grains before the pattern repeats
_STRETCH = 5.0  # length of a grain over its width


def wave(x: np.ndarray) -> np.ndarray:
  """A smooth wave of period 1 and amplitude 1: a triangle wave bent by a cubic, within 2 % of a cosine."""
  t = x - np.floor(x)
  t = 4 * np.abs(t - np.float32(0.5)) - 1
  return t * (np.float32(1.5) - np.float32(0.5) * t * t)


def striped(p: np.ndarray, q: np.ndarray, grain: np.ndarray) -> np.ndarray:
  return wave(p) * np.float32(1.40)


def checked(p: np.ndarray, q: np.ndarray, grain: np.ndarray) -> np.ndarray:
  return wave(p) + wave(q)


def dotted(p: np.ndarray, q: np.ndarray, grain: np.ndarray) -> np.ndarray:
  along, across = np.float32(0.5) * p, np.float32(0.8660254) * q
  return (wave(p) + wave(along + across) + wave(along - across)) * np.float32(0.81)


def woven(p: np.ndarray, q: np.ndarray, grain: np.ndarray) -> np.ndarray:
  odd = (np.floor(p * np.float32(0.4)) + np.floor(q * np.float32(0.4))) % 2
  return wave(p + odd * (q - p)) * np.float32(1.40)


def grained(p: np.ndarray, q: np.ndarray, grain: np.ndarray) -> np.ndarray:
  return sample(grain, p * 2, q * np.float32(2 / _STRETCH)) * np.float32(1.75)


TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
  "striped": striped,
  "checked": checked,
  "dotted": dotted,
  "woven": woven,
  "grained": grained,
}


def grain(draws: Draws) -> np.ndarray:
  """The lattice of `grained`, for `sample`: neighbours along p repel each other, so that no coarse noise is left."""
  white = draws.white(_GRAIN, _GRAIN)
  return repeating(white * np.float32(0.8165) - (np.roll(white, 1, 1) + np.roll(white, -1, 1)) * np.float32(0.40825))


def natural_noise(draws: Draws, n_octaves: int, gain: float = 1.0) -> np.ndarray:
  """Noise for `sample` whose power falls as f^-2 where `gain` is 1, `noise_period(n_octaves)` samples a side.

  A pyramid: the field is doubled in size by a quadratic B-spline, and noise of `gain` times the standard deviation of
  the octave before it is added. Rendered larger, the same draws give the same field with finer octaves added.
  """
  field, amplitude = draws.white(_COARSEST, _COARSEST), 1.0
  for _ in range(n_octaves):
    amplitude *= gain
    field = _doubled(_doubled(field, 0), 1)
    field += draws.white(*field.shape) * np.float32(amplitude)
  return repeating(field)


def noise_period(n_octaves: int) -> int:
  return _COARSEST * 2**n_octaves


def _doubled(x: np.ndarray, axis: int) -> np.ndarray:
  """Twice as many samples along `axis`, by the (1, 3, 3, 1) / 4 subdivision of quadratic B-splines."""
  near, far = x * np.float32(0.75), x * np.float32(0.25)
  out = np.empty([2 * s if a == axis else s for a, s in enumerate(x.shape)], np.float32)
  even, odd = (out[::2], out[1::2]) if axis == 0 else (out[:, ::2].T, out[:, 1::2].T)
  near, far = (near, far) if axis == 0 else (near.T, far.T)
  np.add(near[1:], far[:-1], out=even[1:])
  np.add(near[:-1], far[1:], out=odd[:-1])
  even[0], odd[-1] = near[0] + far[-1], near[-1] + far[0]
  return out


# -------------------------------------------------------------------------------- fields that repeat

_BORDER = 2  # rows and columns repeated at the end of a field, so that no neighbour is looked up across its edge


def repeating(field: np.ndarray) -> np.ndarray:
  """A square field with its first rows and columns once more behind the last, as `sample` takes it."""
  return np.pad(field, (0, _BORDER), mode="wrap")


def period(field: np.ndarray) -> int:
  return len(field) - _BORDER


def sample(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """A repeating field at positions x (columns) and y (rows), float32[...] alike or to be broadcast, bilinear."""
  (left, fx), (top, fy) = (_split(z, period(field)) for z in (x, y))
  if y.shape[-1] == 1:  # whole rows are mixed first: two look-ups a pixel, not four
    mixed = field.take(top[:, 0], 0) * (1 - fy) + field.take(top[:, 0] + 1, 0) * fy
    flat, index = mixed.ravel(), left + np.arange(len(mixed), dtype=np.int32)[:, None] * len(field)
    return flat.take(index) * (1 - fx) + flat.take(index + 1) * fx
  flat, index = field.ravel(), left + top * len(field)
  upper = flat.take(index) * (1 - fx) + flat.take(index + 1) * fx
  index += len(field)
  lower = flat.take(index) * (1 - fx) + flat.take(index + 1) * fx
  return upper + (lower - upper) * fy


def _split(x: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
  """Whole part in [0, period] (int32) and fraction of `x`, brought into one period."""
  x = x - np.floor(x * np.float32(1 / period)) * np.float32(period)
  whole = np.floor(x)
  return whole.astype(np.int32), x - whole
