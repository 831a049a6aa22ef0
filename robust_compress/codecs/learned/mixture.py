"""Symbols of Gaussian mixtures, a mixture for each: by yes or no, since making a table for each would take too long.

    is it the likeliest number? ─no─▶ is it above? ──▶ how far off: 1, 2–3, 4–7, …? ──▶ which half of that? ──▶ …

Each answer is a bit with the probability that the mixture and the answers before give it, in 65536ths. A symbol needs
the distribution function at as many points as there are questions, of which most symbols answer one; a row of a table
would need it at each of its bins. There is no escape: questions go on as far as `MAX_SYMBOL`. All symbols of a portion
are asked the same question at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from robust_compress.codecs.learned.coder import Decoder, Encoder, check_symbols
from robust_compress.codecs.learned.tables import MAX_SYMBOL, SCALE_BOUND, TOTAL
from robust_compress.types import CodecError

Code = Callable[[np.ndarray | None, np.ndarray], np.ndarray]  # (bits or None, how many of 65536 are set) -> bits


class Mixture:
  """Σ weight · Normal(mean, scale) for each of n symbols; the probability of a number is that of the bin around it.

  Args:
    weights: float[n c] of the components, not negative; they need not sum to 1.
    means: float[n c], up to `MAX_SYMBOL` in magnitude.
    scales: float[n c], those below `SCALE_BOUND` taken for it.

  Raises:
    CodecError: parameters that are not finite, negative weights or all zero, scales that are not positive.
  """

  def __init__(self, weights: np.ndarray, means: np.ndarray, scales: np.ndarray) -> None:
    weights, means, scales = (np.asarray(x, np.float64).T for x in (weights, means, scales))
    total = sum(weights)  # component by component: the order is part of the number
    is_finite = np.isfinite(total).all() and np.isfinite(scales).all() and (np.abs(means) <= MAX_SYMBOL).all()
    if not (is_finite and (weights >= 0).all() and np.all(total > 0) and (scales > 0).all()):
      raise CodecError("an entropy model gave weights, means or scales that no mixture has; are these its weights?")
    self.weights, scales = weights / total, np.maximum(scales, SCALE_BOUND)
    self.sharpness = 1 / scales
    peak = np.argmax(self.weights * self.sharpness, axis=0)
    self.likeliest = np.rint(np.take_along_axis(means, peak[None], axis=0)[0]).astype(np.int32)
    self.means = means - self.likeliest

  def __len__(self) -> int:
    return len(self.likeliest)

  def mass(self, which: np.ndarray | slice, side: np.ndarray | int, distance: np.ndarray | int) -> np.ndarray:
    """Of all numbers on one side (1 above, -1 below) of the likeliest, from `distance` on. Exact far out too."""
    reach = side * self.means[:, which] - (distance - 0.5)
    return sum(self.weights[:, which] * special.ndtr(reach * self.sharpness[:, which]))


def put(encoder: Encoder, symbols: np.ndarray, mixture: Mixture) -> None:
  """Appends int32[n] symbols. Raises CodecError for symbols over `MAX_SYMBOL`, or another number of them."""
  if symbols.shape != mixture.likeliest.shape:
    raise CodecError(f"cannot code {list(symbols.shape)} symbols by {len(mixture)} mixtures; expected one each")
  check_symbols(symbols)

  def code(bits, ones):
    encoder.put_bits(bits, ones)
    return bits

  _walk(mixture, code, symbols.astype(np.int32) - mixture.likeliest)


def get(decoder: Decoder, mixture: Mixture) -> np.ndarray:
  """The next int32[n] symbols. Raises CodecError for a string that codes none."""
  symbols = _walk(mixture, lambda _, ones: decoder.get_bits(ones), None) + mixture.likeliest
  if np.abs(symbols).max(initial=0) > MAX_SYMBOL:
    raise CodecError(f"a coded string holds a symbol over {MAX_SYMBOL}; it is damaged, or not of these weights")
  return symbols


def _walk(mixture: Mixture, code: Code, offsets: np.ndarray | None) -> np.ndarray:
  """int32[n] offsets from the likeliest numbers, by questions; where they are known, they give the answers."""
  above, below = mixture.mass(slice(None), 1, 1), mixture.mass(slice(None), -1, 1)
  is_off = code(None if offsets is None else offsets != 0, _ones(above + below, 1.0))
  which = np.flatnonzero(is_off)
  above, below = above[which], below[which]
  is_above = code(None if offsets is None else offsets[which] > 0, _ones(above, above + below))
  side = np.where(is_above, 1, -1).astype(np.int32)
  distances = None if offsets is None else np.abs(offsets[which])
  result = np.zeros(len(mixture), np.int32)
  result[which] = side * _distances(mixture, which, side, np.where(is_above, above, below), code, distances)
  return result


def _distances(
  mixture: Mixture, which: np.ndarray, side: np.ndarray, mass: np.ndarray, code: Code, known: np.ndarray | None
) -> np.ndarray:
  """How far from the likeliest, at least 1: first the power of two, then the half, the quarter, … within it.

  `mass` is that from distance 1 on; `known` distances give the answers.
  """
  low, high = np.ones(len(which), np.int32), np.ones(len(which), np.int32)
  near, far = mass, np.zeros(len(which))  # the mass from `low` on and that from `high` on
  going, end = np.arange(len(which)), 1
  while going.size:
    if end > 2 * MAX_SYMBOL:
      raise CodecError(f"a coded string holds a symbol over {MAX_SYMBOL}; it is damaged, or not of these weights")
    low[going], end = end, 2 * end
    high[going], far[going] = end, mixture.mass(which[going], side[going], end)
    is_within = code(None if known is None else known[going] < end, _ones(near[going] - far[going], near[going]))
    going = going[~is_within]
    near[going] = far[going]
  while (going := np.flatnonzero(high - low > 1)).size:
    middle = (low[going] + high[going]) // 2
    mass = mixture.mass(which[going], side[going], middle)
    ones = _ones(near[going] - mass, near[going] - far[going])
    is_near = code(None if known is None else known[going] < middle, ones)
    nearer, farther = going[is_near], going[~is_near]
    high[nearer], far[nearer] = middle[is_near], mass[is_near]
    low[farther], near[farther] = middle[~is_near], mass[~is_near]
  return low


def _ones(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
  """How many of 65536 cases, neither none nor all; half of them where nothing is left to tell."""
  share = np.divide(part, whole, out=np.full(part.shape, 0.5), where=np.asarray(whole) > 0)
  return np.clip(np.rint(share * TOTAL), 1, TOTAL - 1).astype(np.int32)
