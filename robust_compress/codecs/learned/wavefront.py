"""The order in which a latent with autoregressive context is coded, and the way along it.

    j ──▶  0 1 2 3 4      All positions of one t = j + 3i are coded at once: what each knows, two rows above and two
    i      3 4 5 6 7      columns to its left, has a smaller t. A picture of 768×512 takes 141 fronts instead of 1536
    ▼      6 7 8 9 10     positions.

    begun, ŷ so far ──gather──▶ step, compiled for each of `SIZES` ──▶ prior of a front ──▶ its ŷ ──▶ the next front

Encoder and decoder run the very same program on the same numbers, whatever the picture's size and the batch: so both
foretell the same. Long fronts go in several calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from robust_compress.codecs.learned.networks.context import NEIGHBOURS

SIZES = (4, 8, 16, 32, 64)  # positions of a call
_MARGIN = 2  # zeros above, to the left and to the right of the latent

Foretell = Callable[[np.ndarray, np.ndarray], Any]  # (begun[p width], neighbours[p 12 m]) -> a prior of [p …] arrays
Decide = Callable[[slice, Any], np.ndarray]  # (which positions in coding order, their prior) -> their float32[n m] ŷ


class Portion(NamedTuple):
  """What one call foretells: positions start … end − 1 in coding order, and as many behind them as fill it up."""

  start: int
  end: int
  size: int


class Order(NamedTuple):
  """Of the positions of a latent."""

  positions: np.ndarray  # int32[h·w], i·w + j of each, front by front
  portions: list[Portion]
  places: np.ndarray  # int32[h·w], where each lies in the latent with its margin
  neighbours: np.ndarray  # int32[h·w + … 12], where its neighbours lie; the last rows fill up the last call


@functools.lru_cache(maxsize=8)
def order(height: int, width: int) -> Order:
  """The order of a latent of this size, which an encoder and a decoder both work out."""
  i, j = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
  front = j + 3 * i
  positions = np.argsort(front, kind="stable").astype(np.int32)
  places = ((i + _MARGIN) * (width + 2 * _MARGIN) + j + _MARGIN)[positions]
  steps = np.array([row * (width + 2 * _MARGIN) + column for row, column in NEIGHBOURS], np.int32)
  neighbours = np.pad(places[:, None] + steps, ((0, SIZES[-1]), (0, 0)))
  return Order(positions, list(_portions(np.bincount(front).tolist())), places, neighbours)


def walk(foretell: Foretell, begun: np.ndarray, decide: Decide, m: int) -> np.ndarray:
  """Goes along the order: foretells a portion, has its ŷ decided, goes on.

  Args:
    foretell: takes as many positions as one of `SIZES` says, the last of which may be to no purpose.
    begun: float32[h w width], of `ContextModel.begun`.
    decide: codes a portion, or decodes it.
    m: channels of y.

  Returns:
    float32[h w m], ŷ.
  """
  height, width = begun.shape[:2]
  along = order(height, width)
  begun, positions = begun.reshape(height * width, -1), np.pad(along.positions, (0, SIZES[-1]))
  y_hat = np.zeros(((height + _MARGIN) * (width + 2 * _MARGIN), m), np.float32)
  for start, end, size in along.portions:
    neighbours = y_hat.take(along.neighbours[start : start + size], axis=0)
    prior = foretell(begun.take(positions[start : start + size], axis=0), neighbours)
    prior = type(prior)(*(np.asarray(part)[: end - start] for part in prior))
    y_hat[along.places[start:end]] = decide(slice(start, end), prior)
  return y_hat.reshape(height + _MARGIN, width + 2 * _MARGIN, m)[_MARGIN:, _MARGIN:-_MARGIN]


def _portions(lengths: list[int]) -> Iterator[Portion]:
  """Of fronts of these lengths: no portion reaches into another front."""
  start = 0
  for length in lengths:
    end = start + length
    while start < end:
      n = min(end - start, SIZES[-1])
      yield Portion(start, start + n, next(size for size in SIZES if size >= n))
      start += n
