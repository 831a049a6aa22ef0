"""Error bars: paired bootstraps over pictures, and McNemar's test.

    records[n] ──compute(weights=None)───────────────▶ the metric
    ids ──resamples──▶ counts[n], r times ──compute──▶ replicates[r] ──interval──▶ (low, high)

A resample of n pictures is a vector of counts: how often each picture was drawn. Counts depend on the ids and a
seed alone, so two cells on the same pictures are resampled alike, and replicate k of one less replicate k of the other
is a replicate of their difference. That is what makes a small loss visible between two scores of the same pictures.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from robust_compress.types import DataError

Records = dict[str, np.ndarray]  # leading axis n; per-example arrays of unequal shape stand in an object array
Compute = Callable[[Records, np.ndarray | None], Mapping[str, float]]


# --------------------------------------------------------------------------------------------- records


def stack(records: Sequence[Mapping[str, np.ndarray]]) -> Records:
  """One mapping per example to one array per name, with a leading axis n."""
  if not records:
    return {}
  return {name: _joined([np.asarray(record[name]) for record in records]) for name in records[0]}


def concatenate(parts: Sequence[Records]) -> Records:
  """Joins along n. A name that is ragged in one part, or differs in shape between two, is ragged in the whole."""
  parts = [part for part in parts if part]
  if not parts:
    return {}
  return {name: _concatenated([part[name] for part in parts]) for name in parts[0]}


def take(records: Records, index: np.ndarray | slice) -> Records:
  """The examples at `index` (integers, a mask or a slice)."""
  return {name: values[index] for name, values in records.items()}


def align(ids_a: Sequence[str], ids_b: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Where the ids common to both stand in each, in sorted order: the way to pair cells that skipped other pictures."""
  common = sorted(set(ids_a) & set(ids_b))
  a, b = ({id: i for i, id in enumerate(ids)} for ids in (ids_a, ids_b))
  return np.array([a[id] for id in common], np.int64), np.array([b[id] for id in common], np.int64)


def _joined(items: Sequence[np.ndarray]) -> np.ndarray:
  if all(item.shape == items[0].shape for item in items):
    return np.stack(items)
  ragged = np.empty(len(items), object)
  ragged[:] = items
  return ragged


def _concatenated(parts: Sequence[np.ndarray]) -> np.ndarray:
  if any(part.dtype == object or part.shape[1:] != parts[0].shape[1:] for part in parts):
    return _joined([item for part in parts for item in part])
  return np.concatenate(parts)


# ------------------------------------------------------------------------------------------- bootstrap


def resamples(ids: Sequence[str], n_replicates: int = 1000, seed: int = 0) -> Iterator[np.ndarray]:
  """Yields uint16[n], n_replicates times: how often each id is drawn in a resample of n with replacement.

  A pure function of the set of ids and the seed; the order of `ids` only orders the counts. Drawn from the raw words
  of PCG64, a stream that numpy promises never to change, so replicates stored years apart still pair.

  Raises:
    DataError: an id that appears twice, which could not be paired.
  """
  n = len(ids)
  if len(set(ids)) != n:
    raise DataError(f"id {Counter(ids).most_common(1)[0][0]!r} appears more than once; every example needs its own id")
  order = np.array(sorted(range(n), key=ids.__getitem__), np.int64)  # order[k]: where the k-th smallest id stands
  digest = hashlib.sha256("\n".join([str(seed), *sorted(ids)]).encode()).digest()
  words = np.random.PCG64(int.from_bytes(digest[:16], "little"))
  for _ in range(n_replicates):
    drawn = (words.random_raw(n) >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)  # uniform over 0..n-1
    counts = np.empty(n, np.uint16)
    counts[order] = np.bincount(drawn.view(np.int64), minlength=n)
    yield counts


def replicates(
  compute: Compute, records: Records, ids: Sequence[str], n_replicates: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
  """{metric: float64[r]}: each metric over the same resamples of the examples. Memory grows with n + r only."""
  values = [compute(records, counts.astype(np.float64)) for counts in resamples(ids, n_replicates, seed)]
  return {name: np.array([value[name] for value in values], np.float64) for name in (values[0] if values else ())}


def interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
  """Percentile interval (low, high) of float[r].

  Undefined replicates (NaN: a class that was not drawn, a share of no loss) are left out; where they are more than
  1 - level of all, the interval itself is undefined: (nan, nan).
  """
  values = np.asarray(replicates, np.float64)
  defined = values[np.isfinite(values)]
  if not len(defined) or len(defined) < level * len(values):
    return float("nan"), float("nan")
  low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def over_seeds(replicates: np.ndarray, seed: int = 0) -> np.ndarray:
  """float[s r], the replicates of s trainings, to float[r]: replicates of their mean, over pictures and trainings.

  Each replicate also resamples the trainings. Deviations are scaled by sqrt(s / (s - 1)), without which a bootstrap of
  few seeds would understate their spread. One seed stays as it is: its interval speaks of test sampling only.
  """
  replicates = np.asarray(replicates, np.float64)
  n_seeds, n_replicates = replicates.shape
  if n_seeds == 1:
    return replicates[0]
  drawn = np.random.default_rng(seed).integers(n_seeds, size=(n_seeds, n_replicates))
  mean = replicates.mean(0)
  return mean + np.sqrt(n_seeds / (n_seeds - 1)) * (np.take_along_axis(replicates, drawn, 0).mean(0) - mean)


# --------------------------------------------------------------------------------------------- McNemar


class McNemar(NamedTuple):
  """Two classifiers on the same examples."""

  n01: int  # wrong in a, right in b
  n10: int  # right in a, wrong in b
  p_value: float  # two-sided, exact; of a difference this large when neither is better


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
  """Exact McNemar test of bool[n] against bool[n]: a binomial test of the examples on which they differ."""
  a, b = (np.asarray(x).astype(bool) for x in (a, b))
  if a.shape != b.shape or a.ndim != 1:
    raise DataError(f"McNemar pairs examples one to one; got shapes {a.shape} and {b.shape}")
  n01, n10 = int(np.sum(~a & b)), int(np.sum(a & ~b))
  return McNemar(n01, n10, _two_sided(min(n01, n10), n01 + n10))


def _two_sided(k: int, n: int) -> float:
  """min(1, 2 P(X <= k)) for X ~ Binomial(n, 1/2), in integers: exact at any n."""
  term = total = 1
  for i in range(k):
    term = term * (n - i) // (i + 1)  # binomial coefficient (n over i + 1)
    total += term
  return min(1.0, 2 * total / 2**n)
