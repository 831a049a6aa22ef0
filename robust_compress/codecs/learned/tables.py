"""Integer tables of what a symbol may be: the distributions of entropy models as a coder takes them.

    scale ──gaussian_indexes──▶ row of `gaussian()`          one of 64 tables, shared by all symbols
    pmf of a channel ──from_pmf──▶ one row a channel         factorized prior

A row counts in 65536ths. Its bins stand for successive whole numbers from `offset` on; the last one is the escape, for
all other numbers. Everything is computed by numpy in float64 and then rounded once, so that rows are equal wherever
they are made: an encoder and a decoder that differ in one count lose each other. Widths and scales of the Gaussian
rows follow CompressAI (Bégaint et al. 2020), so that its weights code to the same size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import special

from robust_compress.types import CodecError

TOTAL = 1 << 16  # what the counts of a row sum to
MAX_SYMBOL = (1 << 22) - 1  # in magnitude
SCALE_BOUND = 0.11  # smaller scales are coded as this one
SCALES = np.exp(np.linspace(np.log(SCALE_BOUND), np.log(256), 64)).astype(np.float32)
_TAIL_MASS = 1e-9  # outside a Gaussian row, as far as float64 tells


@dataclass(frozen=True, eq=False)
class Tables:
  """Rows of cumulative counts.

  Attributes:
    cdfs: int32[m k+1]; a row rises from 0 to 65536 in `lengths` steps of at least 1 and stays there.
    lengths: int32[m], bins of a row, the escape among them; at least 2.
    offsets: int32[m], the number that bin 0 stands for.

  Raises:
    CodecError: a row that is none; the message names it.
  """

  cdfs: np.ndarray
  lengths: np.ndarray
  offsets: np.ndarray

  def __post_init__(self) -> None:
    for name in ("cdfs", "lengths", "offsets"):
      given = np.asarray(getattr(self, name))
      if given.dtype.kind not in "iu":
        raise CodecError(f"tables: {name} is {given.dtype}; expected whole numbers")
      object.__setattr__(self, name, given.astype(np.int32, copy=False))
    shapes = self.cdfs.shape, self.lengths.shape, self.offsets.shape
    if self.cdfs.ndim != 2 or self.cdfs.shape[1] < 2 or shapes[1:] != (shapes[0][:1],) * 2:
      raise CodecError(f"tables: cdfs{shapes[0]}, lengths{shapes[1]}, offsets{shapes[2]}; expected [m k+1], [m], [m]")
    wrong = np.flatnonzero(self._is_wrong())
    if wrong.size:
      row = wrong[0]
      raise CodecError(
        f"tables: row {row} of {len(self)} is not one of {self.lengths[row]} counts that are positive and sum to "
        f"{TOTAL}, with an offset of at most {MAX_SYMBOL}"
      )

  def _is_wrong(self) -> np.ndarray:
    """bool[m]."""
    width = self.cdfs.shape[1] - 1
    is_bin = np.arange(width) < self.lengths[:, None]
    steps = np.diff(self.cdfs, axis=1)
    wrong = np.where(is_bin, steps < 1, steps != 0).any(axis=1)
    wrong |= (self.cdfs[:, 0] != 0) | (self.cdfs[:, -1] != TOTAL)
    return wrong | (self.lengths < 2) | (self.lengths > width) | (np.abs(self.offsets.astype(np.int64)) > MAX_SYMBOL)

  def __len__(self) -> int:
    return len(self.cdfs)

  @functools.cached_property
  def least_bits(self) -> np.ndarray:
    """float64[m]: what the likeliest number of each row costs; 0 where it is bin 0, as these may end in bytes of zero.

    A string leaves such bytes out.
    """
    counts = np.diff(self.cdfs, axis=1)
    likeliest = counts.argmax(axis=1)
    return np.where(likeliest == 0, 0.0, -np.log2(counts.max(axis=1) / TOTAL))


def quantise(pmf: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
  """Probabilities to cumulative counts, each bin's count at least 1.

  A bin has 1 and its part of what is left, by what its probability exceeds 1 / 65536; the cumulative sum of that is
  rounded. So rows are monotone by construction, and no bin is taken from to make a sum right.

  Args:
    pmf: float64[m k], not negative; rows need not sum to 1.
    lengths: int32[m], the bins that are counted; default k.

  Returns:
    int32[m k+1].

  Raises:
    CodecError: probabilities that are negative, not finite or all zero; more than 65536 bins.
  """
  pmf = np.asarray(pmf, np.float64)
  m, k = pmf.shape
  lengths = np.full(m, k) if lengths is None else np.asarray(lengths)
  is_bin = np.arange(k) < lengths[:, None]
  mass = np.cumsum(np.where(is_bin, pmf, 0), axis=1)[:, -1:]  # in order; np.sum adds in pairs, by what the CPU has
  if not (np.isfinite(mass).all() and (mass > 0).all() and (pmf >= 0).all()) or (m and lengths.max() > TOTAL):
    raise CodecError(f"tables: probabilities in [{pmf.min()}, {pmf.max()}]; expected finite ones, some positive")
  excess = np.maximum(np.where(is_bin, pmf, 0) * (TOTAL / mass) - 1, 0)
  cumulative = np.cumsum(excess, axis=1)
  scale = (TOTAL - lengths[:, None]) / np.maximum(cumulative[:, -1:], 1e-9)
  slots = np.cumsum(is_bin, axis=1)
  cdfs = np.zeros((m, k + 1), np.int32)
  cdfs[:, 1:] = np.rint(cumulative * scale) + slots
  return cdfs


# --------------------------------------------------------------------------------------------- Gaussian rows


@functools.cache
def gaussian() -> Tables:
  """The 64 rows of `SCALES`, symmetrical about 0. CompressAI's have the same bins and the same tails."""
  scales = SCALES.astype(np.float64)
  reach = np.ceil(scales * -special.ndtri(_TAIL_MASS / 2)).astype(np.int32)
  lengths = 2 * reach + 2
  number = np.arange(lengths.max()) - reach[:, None]
  pmf = _gaussian_mass(np.abs(number) / scales[:, None], scales[:, None])
  escape = np.arange(len(scales)), lengths - 1
  pmf[escape] = 2 * special.ndtr(-(reach + 0.5) / scales)
  return Tables(quantise(pmf, lengths), lengths, -reach)


def _gaussian_mass(distance: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """Of a bin of width 1, `distance` scales away from the mean; in the lower tail, where differences are exact."""
  return special.ndtr(0.5 / scale - distance) - special.ndtr(-0.5 / scale - distance)


# By the upper half of a scale's bits, eight times faster than a search: there is at most one of `SCALES` among floats
# that have these in common.
_FIRST_INDEX = np.searchsorted(SCALES[:-1], (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32)).astype(
  np.int32
)
_UPPER_SCALE = np.append(SCALES[:-1], np.float32(np.inf))


def gaussian_indexes(scales: np.ndarray) -> np.ndarray:
  """float[...] to int32[...], the row of each: that of the next scale above, the last one for all beyond.

  Raises CodecError for scales that are not finite or not positive.
  """
  scales = np.asarray(scales, np.float32)
  if scales.size and not 0 < scales.min() <= scales.max() < np.inf:  # as NaN, which min and max hand on
    raise CodecError("an entropy model gave a scale that is not positive or not finite; are these its weights?")
  index = _FIRST_INDEX.take(scales.view(np.uint32) >> 16)
  return index + (scales > _UPPER_SCALE.take(index))


# ------------------------------------------------------------------------------------------------ other rows


def from_pmf(pmf: np.ndarray, lengths: np.ndarray, offsets: np.ndarray) -> Tables:
  """Rows of a factorized prior.

  Args:
    pmf: float64[m k], row i for the numbers from `offsets[i]` on; what it lacks of 1 is the escape's.
    lengths: int32[m], the numbers of a row.
    offsets: int32[m].

  Raises:
    CodecError: as `quantise` and `Tables`.
  """
  pmf, lengths = np.asarray(pmf, np.float64), np.asarray(lengths)
  m, k = pmf.shape
  if lengths.shape != (m,) or (m and not 0 < lengths.min() <= lengths.max() <= k):
    raise CodecError(f"tables: lengths{lengths.shape} of {m} rows with {k} places")
  rows = np.zeros((m, k + 1))
  rows[:, :k] = np.where(np.arange(k) < lengths[:, None], pmf, 0)
  rows[np.arange(m), lengths] = np.maximum(1 - np.cumsum(rows, axis=1)[:, -1], 0)
  return Tables(quantise(rows, lengths + 1), lengths + 1, offsets)
