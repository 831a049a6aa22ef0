"""Functions of several cells' metrics, with intervals by their paired replicates.

The store keeps the metric of every cell under the same resamples of the same pictures, so a difference is taken
resample by resample. Cells on other pictures, some skipped by one of them, are not compared: their difference would be
one of pictures too. From rows alone, without replicates, there are differences and no intervals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from robust_compress import statistics
from robust_compress.report.curves import Panel, Sample
from robust_compress.types import Cell, StoreError

_BINARY = {"top1": "correct1", "top5": "correct5"}  # metrics that are the mean of a yes or no in the records


class Results(Protocol):
  """What is read of a store beyond its rows (`store.Store` is one)."""

  def replicates(self, cell: Cell) -> dict[str, np.ndarray]: ...
  def records(self, cell: Cell) -> tuple[list[str], dict[str, np.ndarray]]: ...


class Estimate(NamedTuple):
  """A number with its 95 % interval, where there is one."""

  value: float
  interval: tuple[float, float] | None = None

  def excludes(self, value: float) -> bool:
    return self.interval is not None and not self.interval[0] <= value <= self.interval[1]


class Paired:
  """Functions of several samples' metrics, with intervals by their paired replicates."""

  def __init__(self, results: Results | None = None):
    self._results = results
    self._read: dict[Cell, tuple[tuple[str, ...], dict[str, np.ndarray], dict[str, np.ndarray]] | None] = {}

  def estimate(
    self, function: Callable[..., float | None], metric: str, *samples: Sample, most: int | None = None
  ) -> Estimate | None:
    """function(value of each sample), its interval by `most` replicates.

    None where a value is missing or undefined, and where the samples are of different pictures.
    """
    if self.differ(*samples):
      return None
    values = [sample.value(metric) for sample in samples]
    point = None if any(value is None for value in values) else function(*values)
    if point is None or not np.isfinite(point):
      return None
    drawn = self._replicates(metric, samples)
    return Estimate(float(point), None if drawn is None else _interval(function, [values[:most] for values in drawn]))

  def differ(self, *samples: Sample) -> bool:
    """Whether the samples are known to be of different pictures: by ids, or by their number where ids are not kept."""
    rows = [row for sample in samples for row in sample.rows]
    read = [self._of(row.cell) for row in rows]
    return len({row.n for row in rows}) > 1 or len({r[0] for r in read if r is not None}) > 1

  def with_seeds(self, panel: Panel) -> Panel:
    """The panel with intervals over pictures and trainings on what was trained several times."""
    return dataclasses.replace(panel, samples=tuple(self._over_seeds(sample) for sample in panel.samples))

  def _over_seeds(self, sample: Sample) -> Sample:
    """The sample with intervals over pictures and trainings, where it has several seeds and replicates of them all."""
    if len(sample.rows) < 2:
      return sample
    metrics = {name for row in sample.rows for name in row.metrics}
    found = {name: self.estimate(lambda value: value, name, sample) for name in metrics}
    found = {name: one.interval for name, one in found.items() if one is not None and one.interval is not None}
    return dataclasses.replace(sample, over_seeds=found)

  def mcnemar(self, a: Sample, b: Sample, metric: str) -> float | None:
    """Exact p-value that two samples are right equally often, on their first seeds; None for other metrics."""
    read = [self._of(sample.rows[0].cell) for sample in (a, b)]
    name = _BINARY.get(metric, "")
    if self.differ(a, b) or not all(r is not None and name in r[2] for r in read):
      return None
    return float(statistics.mcnemar(read[0][2][name].astype(bool), read[1][2][name].astype(bool)).p_value)

  def _replicates(self, metric: str, samples: tuple[Sample, ...]) -> list[np.ndarray] | None:
    """One array a sample, over its seeds; None unless all are stored, and equally many."""
    arrays = []
    for sample in samples:
      read = [self._of(row.cell) for row in sample.rows]
      if any(r is None or metric not in r[1] for r in read):
        return None
      if len({len(r[1][metric]) for r in read}) != 1:
        return None
      arrays.append(statistics.over_seeds(np.array([r[1][metric] for r in read])))
    return arrays if len({len(a) for a in arrays}) == 1 else None

  def _of(self, cell: Cell):
    """(ids, replicates, records) of a cell, in the order of the ids; None where the store has none."""
    if self._results is not None and cell not in self._read:
      try:
        ids, records = self._results.records(cell)
        order, _ = statistics.align(ids, ids)
        binary = {name: records[name][order] for name in _BINARY.values() if name in records}
        self._read[cell] = (tuple(sorted(ids)), self._results.replicates(cell) or {}, binary)
      except (StoreError, OSError, KeyError, TypeError):
        self._read[cell] = None  # rows alone, as in a published results folder
    return self._read.get(cell)


def _interval(function: Callable[..., float | None], arrays: list[np.ndarray]) -> tuple[float, float] | None:
  drawn = np.array([function(*values) for values in zip(*arrays)], dtype=np.float64)  # None becomes nan
  low, high = statistics.interval(drawn)
  return (low, high) if np.isfinite(low) else None
