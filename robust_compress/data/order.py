"""Chance without state: what is drawn for an example depends on (seed, epoch, id) and on nothing else.

    (purpose, seed, epoch, id) ──hash_of──▶ 128-bit key ──▶ a place in the epoch, a crop, a source of a mixture

So a run resumes at any step, hosts agree without talking, and leaving examples out changes nothing for the others.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np


def hash_of(*what: object) -> int:
  """128 bits that depend on all of `what`: plain values such as strings and integers."""
  return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=16).digest(), "little")


class Order:
  """The example at each position of an endless run of shuffled epochs: order(position) == (epoch, index).

  Examples are sorted by a keyed hash of their ids, mixed anew for each epoch.
  """

  def __init__(self, ids: Sequence[str], seed: int):
    self._hashes = np.array([hash_of(id) & 0xFFFFFFFFFFFFFFFF for id in ids], np.uint64)
    self._seed = seed
    self._permutation = functools.lru_cache(maxsize=2)(self._permuted)  # a batch may span two epochs

  def __call__(self, position: int) -> tuple[int, int]:
    epoch, offset = divmod(position, len(self._hashes))
    return epoch, int(self._permutation(epoch)[offset])

  def _permuted(self, epoch: int) -> np.ndarray:
    x = self._hashes ^ np.uint64(hash_of("order", self._seed, epoch) & 0xFFFFFFFFFFFFFFFF)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixer of SplitMix64
      x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable")
