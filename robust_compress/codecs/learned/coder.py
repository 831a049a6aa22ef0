"""Symbols to bytes and back by integer tables, with constriction's range coder (Bamler 2022).

    symbols, indexes ──▶ bins, sorted by table ──▶ one run a table ──┐
                 └─ outside its row ──▶ digits, behind the others ───┴──▶ range coder ──▶ bytes

`Encoder` and `Decoder` go on where they stopped, for models whose decoder must know the symbols so far before it can
say what the next ones may be; both must be asked in the same portions. Runs are what makes the range coder fast, and
why symbols are sorted: stably, so `indexes` alone say in which order.

Counts of 16 bits go to a coder of 24 by an affine map without rounding: bytes do not depend on a machine's floats. Most
damage is not noticed here, and the symbols are wrong: the checksum of the container tells.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import constriction
import numpy as np

from robust_compress.codecs.learned.tables import MAX_SYMBOL, TOTAL, Tables
from robust_compress.types import CodecError

_queue, _model = constriction.stream.queue, constriction.stream.model
_BITS = _model.Bernoulli(perfect=False)  # of a probability for each
_DIGIT = _model.Uniform(16)
_NUMBER = _model.Uniform()  # below a size for each
_MAX_DIGITS = 6  # of 4 bits: as far as `MAX_SYMBOL` is from any row
_WORD = 1 << 32


def to_symbols(values: np.ndarray) -> np.ndarray:
  """Rounds float[...] to int32[...], halves to even. Raises CodecError for values not finite or over `MAX_SYMBOL`."""
  rounded = np.rint(values)
  if not (np.abs(rounded) <= MAX_SYMBOL).all():  # as is NaN
    raise CodecError(f"a network gave numbers to code that are not finite or over {MAX_SYMBOL} in magnitude")
  return rounded.astype(np.int32)


class Encoder:
  """Codes portions of symbols one after the other into one string."""

  def __init__(self) -> None:
    self._coder = _queue.RangeEncoder()

  def put(self, symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> None:
    """Appends int32[n] symbols, each by the row of `tables` that int32[n] `indexes` names.

    Raises CodecError for symbols over `MAX_SYMBOL`, for indexes that name no row, and for arrays of other kinds.
    """
    check_symbols(symbols)
    check_indexes(indexes, len(tables))
    if len(symbols) != len(indexes):
      raise CodecError(f"{len(symbols)} symbols with {len(indexes)} indexes; expected one each")
    bins = symbols.astype(np.int32) - tables.offsets.take(indexes)
    escape = tables.lengths.take(indexes) - 1
    is_outside = (bins < 0) | (bins >= escape)
    order, runs = _runs(indexes, tables)
    inside = np.where(is_outside, escape, bins).take(order)
    for run, model in runs:
      self._coder.encode(inside[run], model)
    if is_outside.any():
      self._put_escaped(bins[is_outside], escape[is_outside])

  def put_bits(self, bits: np.ndarray, ones: np.ndarray) -> None:
    """Appends bool[n], bit i being set in `ones[i]` of 65536 cases; int[n] from 1 to 65535."""
    check_ones(ones)
    self._coder.encode(bits.astype(np.int32), _BITS, ones / TOTAL)

  def _put_escaped(self, bins: np.ndarray, escape: np.ndarray) -> None:
    """Numbers from 0 on, sides alternating, nearest first: how many digits of 4 bits, then these (as CompressAI)."""
    numbers = np.where(bins < 0, -2 * bins - 1, 2 * (bins - escape))
    n_digits = (np.frexp(numbers)[1] + 3) // 4
    self._coder.encode(n_digits.astype(np.int32), _DIGIT)
    has_digits = n_digits > 0
    self._coder.encode(numbers[has_digits], _NUMBER, (1 << 4 * n_digits[has_digits]).astype(np.int32))

  def string(self) -> bytes:
    """The shortest bytes that decode to what was put.

    Any number in the coder's final interval will do, and the decoder reads zeros behind the end. So of those that end
    in its last word, the one with the most zero bytes at the end is taken, and these are left out.
    """
    words = self._coder.get_compressed()
    _, (low, size) = self._coder.pos()
    word = -(-low // _WORD) % _WORD
    if len(words) and words[-1] == word:
      last = min(word + (size - 1 - -low % _WORD) // _WORD, _WORD - 1)
      rounded = (-(-word // unit) * unit for unit in (1 << 24, 1 << 16, 1 << 8, 1))
      words[-1] = next(number for number in rounded if number <= last)
    return words.astype(">u4").tobytes().rstrip(b"\0")


class Decoder:
  """Reads portions of symbols from a string, in the order and the sizes in which they were put."""

  def __init__(self, string: bytes) -> None:
    self._coder = _queue.RangeDecoder(np.frombuffer(string + bytes(-len(string) % 4), ">u4").astype(np.uint32))

  def get(self, indexes: np.ndarray, tables: Tables) -> np.ndarray:
    """The next int32[n] symbols, as `Encoder.put` took them.

    Raises CodecError for a string that no symbols are coded as, and for indexes that name no row.
    """
    check_indexes(indexes, len(tables))
    order, runs = _runs(indexes, tables)
    found, bins = np.empty((2, len(indexes)), np.int32)
    for run, model in runs:
      found[run] = self._decode(model, run.stop - run.start)
    bins[order] = found
    escape = tables.lengths.take(indexes) - 1
    is_outside = bins >= escape
    if is_outside.any():
      bins[is_outside] = self._escaped(escape[is_outside])
    symbols = bins + tables.offsets.take(indexes)
    if np.abs(symbols).max(initial=0) > MAX_SYMBOL:
      raise CodecError(f"a coded string holds a symbol over {MAX_SYMBOL}; it is damaged, or not of these weights")
    return symbols

  def get_bits(self, ones: np.ndarray) -> np.ndarray:
    """The next bool[n], as `Encoder.put_bits` took them."""
    check_ones(ones)
    return self._decode(_BITS, ones / TOTAL) == 1

  def _escaped(self, escape: np.ndarray) -> np.ndarray:
    n_digits = self._decode(_DIGIT, len(escape))
    if n_digits.max() > _MAX_DIGITS:
      raise CodecError(
        f"a coded string holds a number of {n_digits.max()} digits; it is damaged, or not of these weights"
      )
    has_digits = n_digits > 0
    numbers = np.zeros(len(escape), np.int32)
    numbers[has_digits] = self._decode(_NUMBER, 1 << 4 * n_digits[has_digits])
    return np.where(numbers % 2, -(numbers // 2) - 1, escape + numbers // 2)

  def _decode(self, *model: Any) -> np.ndarray:
    try:
      return self._coder.decode(*model)
    except AssertionError as error:  # constriction's way to say that no symbol has such bits
      raise CodecError("a coded string holds no symbols; it is damaged, or not of these weights") from error


def fingerprint() -> str:
  """What makes its strings."""
  return f"constriction {importlib.metadata.version('constriction')}"


# --------------------------------------------------------------------------------------------------- parts


def _runs(indexes: np.ndarray, tables: Tables) -> tuple[np.ndarray, list[tuple[slice, Any]]]:
  """(order that puts symbols of one row side by side, where each row's lie in it and constriction's model of it)."""
  order = np.argsort(indexes.astype(np.min_scalar_type(len(tables))), kind="stable")  # by radix up to 16 bits
  counts = np.bincount(indexes)
  rows, models = np.flatnonzero(counts), _models(tables)
  ends = np.cumsum(counts.take(rows)).tolist()
  runs = map(slice, [0, *ends], ends)
  return order, [(run, models[row]) for run, row in zip(runs, rows.tolist())]


@functools.lru_cache(maxsize=16)
def _models(tables: Tables) -> list[Any]:
  counts = np.diff(tables.cdfs, axis=1).astype(np.float64)
  return [_model.Categorical(row[:length], perfect=False) for row, length in zip(counts, tables.lengths)]


def check_symbols(symbols: np.ndarray) -> None:
  """Raises CodecError for what is not int[n] within `MAX_SYMBOL`."""
  if symbols.ndim != 1 or symbols.dtype.kind not in "iu":
    raise CodecError(f"cannot code {symbols.dtype}{list(symbols.shape)}; expected whole numbers in one dimension")
  if symbols.size and not -MAX_SYMBOL <= symbols.min() <= symbols.max() <= MAX_SYMBOL:
    raise CodecError(f"cannot code symbols in [{symbols.min()}, {symbols.max()}]; they go to ±{MAX_SYMBOL}")


def check_indexes(indexes: np.ndarray, n_rows: int) -> None:
  """Raises CodecError for what is not int[n] from 0 to below `n_rows`."""
  if indexes.ndim != 1 or indexes.dtype.kind not in "iu":
    raise CodecError(f"indexes are {indexes.dtype}{list(indexes.shape)}; expected whole numbers in one dimension")
  if indexes.size and not 0 <= indexes.min() <= indexes.max() < n_rows:
    raise CodecError(f"indexes in [{indexes.min()}, {indexes.max()}] where tables have {n_rows} rows")


def check_ones(ones: np.ndarray) -> None:
  """Raises CodecError for what is not int[n] from 1 to 65535."""
  if ones.ndim != 1 or ones.dtype.kind not in "iu" or (ones.size and not 0 < ones.min() <= ones.max() < TOTAL):
    raise CodecError(f"probabilities of bits are {ones.dtype}{list(ones.shape)}; expected 1 to {TOTAL - 1} of {TOTAL}")
