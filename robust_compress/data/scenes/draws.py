"""Random draws that are the same bits on every machine and under every numpy.

    (seed, split, index) + stream ──Philox counter──▶ raw uint64 ──exact arithmetic──▶ floats, choices, white noise

Only the raw output of the Philox bit generator is used, which its definition fixes; numpy's distributions may change
between versions. Streams are independent and cheap to open, so adding a draw to one part of a scene (its clutter, its
sensor noise) leaves every other part as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
  """A stream of draws, named by three integers and a stream number."""

  def __init__(self, key: tuple[int, int, int], stream: int = 0):
    """`key` is (seed, split, index): seed below 2^64, split below 2^16, index below 2^48."""
    seed, split, index = key
    words = np.array([seed, (split << 48) | index], np.uint64)
    self._bits = np.random.Philox(counter=np.array([0, 0, stream, 0], np.uint64), key=words)

  def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

  def log_uniform(self, low: float, high: float) -> float:
    """Between `low` and `high`, octaves equally likely."""
    return quantised(low * (high / low) ** self.uniform())

  def integer(self, n: int) -> int:
    return int(self._bits.random_raw()) % n

  def choice(self, values: Sequence[T]) -> T:
    return values[self.integer(len(values))]

  def sign(self) -> float:
    return 1.0 if self.integer(2) else -1.0

  def white(self, *shape: int) -> np.ndarray:
    """float32[shape] of independent values with mean 0 and variance 1 (triangular: two uniform bytes added)."""
    n = math.prod(shape)
    raw = self._bits.random_raw((2 * n + 7) // 8).astype("<u8", copy=False).view(np.uint8)
    pairs = raw[: 2 * n].reshape(2, n)
    total = pairs[0].astype(np.int16) + pairs[1] - 255
    return (total.astype(np.float32) * np.float32(1 / 104.51)).reshape(shape)


def quantised(x: float) -> float:
  """`x` on a grid of 2^-30, so that mathematical libraries which differ in the last bit give the same number."""
  return round(x * 2**30) * 2.0**-30


def turn(revolutions: float) -> tuple[float, float]:
  """(cosine, sine) of an angle in revolutions, quantised."""
  return quantised(math.cos(2 * math.pi * revolutions)), quantised(math.sin(2 * math.pi * revolutions))
