"""Rows to curves: what a report shows, worked out before anything is drawn.

    rows, planned cells ──panels()──▶ Panel(task, model, data, base weights) ──.curve(role, codec)──▶ Samples by rate

A panel holds everything measured from one base: the base itself (A, B, relative) and what was finetuned from it by
one recipe on one data set (C, control, matrix, mixed). A sample is one cell over its training seeds; a cell that was
planned and has no row is a sample in state 'missing', so that a gap is shown and not passed over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_compress import protocols, specs
from robust_compress.rate import TOLERANCE
from robust_compress.report import names
from robust_compress.types import NONE, Cell, Point, Row, Weights

CURVE_ROLES = ("B", "C", "control", "mixed")
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; seeds are few.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Sample:
  """One cell of a panel, over its training seeds."""

  role: str  # protocols.role
  test: Point
  trained: tuple[Point, ...]  # () for base weights
  target: str
  state: str  # 'measured' | 'missing' | 'unreachable'
  bpp: float | None
  rows: tuple[Row, ...] = ()  # one a seed
  over_seeds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # from replicates
  reason: str = ""  # why it is unreachable

  def value(self, metric: str) -> float | None:
    """Mean over seeds; None where the cell was not measured or has no such metric."""
    values = self._values(metric)
    return float(np.mean(values)) if values else None

  def interval(self, metric: str) -> tuple[float, float] | None:
    """95 %. One seed: of the sample of test pictures. Several: of pictures and trainings (`over_seeds`), or, without
    replicates, Student's interval of the mean over trainings."""
    values = self._values(metric)
    if metric in self.over_seeds:
      return self.over_seeds[metric]
    if len(values) > 1:
      half = _T95[min(len(values) - 1, len(_T95)) - 1] * np.std(values, ddof=1) / math.sqrt(len(values))
      return float(np.mean(values) - half), float(np.mean(values) + half)
    bounds = self.rows[0].intervals.get(metric) if values else None
    return bounds if bounds is not None and all(_is_number(bound) for bound in bounds) else None

  def _values(self, metric: str) -> list[float]:
    return [row.metrics[metric] for row in self.rows if _is_number(row.metrics.get(metric))]

  @property
  def rate_miss(self) -> float | None:
    """How far the rate came out from the one asked: 0.2 is a fifth too many bits. None where none was asked."""
    if self.test.bpp is None or self.bpp is None or not self.rows:
      return None
    return self.bpp / self.test.bpp - 1

  @property
  def misses_rate(self) -> bool:
    """Whether that is over 5 %."""
    return self.rate_miss is not None and abs(self.rate_miss) > TOLERANCE

  @property
  def target_rate(self) -> Mapping[str, Any]:
    """What its row says of how the pictures met a target rate: levels, and the share of pictures that miss it."""
    return self.rows[0].provenance.get("target_rate", {}) if self.rows else {}


def _is_number(value: float | None) -> bool:
  """Undefined metrics are null in a stored row."""
  return value is not None and math.isfinite(value)


@dataclass(frozen=True)
class Panel:
  """Everything measured for one task, model, data set and base, with one way of finetuning."""

  task: str
  model: str
  data: str
  base: Weights
  training: tuple[str, str] | None  # data and recipe of the finetuned weights
  metrics: tuple[names.Metric, ...]  # most telling first
  samples: tuple[Sample, ...]

  @property
  def metric(self) -> names.Metric:
    """The one that is drawn."""
    return self.metrics[0]

  @property
  def rows(self) -> list[Row]:
    return [row for sample in self.samples for row in sample.rows]

  @property
  def n_seeds(self) -> int:
    return max((len(sample.rows) for sample in self.samples if sample.trained), default=1)

  def find(self, role: str, test: Point, trained: tuple[Point, ...] | None = None) -> Sample | None:
    """The measured sample of a role at a point."""
    for sample in self.samples:
      if (sample.role, sample.test) == (role, test) and sample.rows and trained in (None, sample.trained):
        return sample
    return None

  @property
  def baseline(self) -> Sample | None:
    return self.find("A", NONE)

  def codecs(self, roles: Collection[str] = CURVE_ROLES) -> list[Point]:
    """One level-less point a codec that occurs in these roles, in order of appearance."""
    seen = {Point(s.test.codec, s.test.options): None for s in self.samples if s.role in roles and s.test != NONE}
    return list(seen)

  def curve(self, role: str, codec: Point, state: str = "measured") -> list[Sample]:
    """Samples of one role and codec, by rate (those of unknown rate by level, last)."""
    mine = [
      s for s in self.samples
      if s.role == role and s.state == state and (s.test.codec, s.test.options) == (codec.codec, codec.options)
      and (role != "relative" or not s.trained)
    ]  # fmt: skip
    return sorted(mine, key=lambda s: (s.bpp is None, s.bpp or 0.0, s.test.level or 0.0, s.test.bpp or 0.0))

  def matrix(self) -> tuple[list[tuple[Point, ...]], list[Point]]:
    """Training points (rows; () is the base) and test points (columns) of the train level × test level table."""
    table = [s for s in self.samples if s.role in ("A", "B", "C", "control", "matrix") and s.state != "unreachable"]
    if not any(s.role == "matrix" and s.test != NONE for s in table):
      return [], []
    order = {s.test: None for s in sorted(table, key=_rate_order)}
    trained = {s.trained for s in table}
    rows = sorted(
      trained, key=lambda t: (t != (), t != (NONE,), [list(order).index(p) if p in order else -1 for p in t])
    )
    return rows, list(order)

  def trained_on(self, trained: tuple[Point, ...], test: Point) -> Sample | None:
    """What stands in the train level × test level table at one place."""
    for sample in self.samples:
      if (sample.trained, sample.test) == (trained, test) and sample.role != "relative":
        return sample
    return None


def _rate_order(sample: Sample) -> tuple[bool, str, float, float]:
  return sample.test == NONE, names.codec_key(sample.test), sample.bpp or 0.0, sample.test.level or 0.0


def panels(
  rows: Iterable[Row],
  planned: Iterable[Cell] = (),
  unreachable: Collection[Cell] | Mapping[Cell, str] = (),
  metric: str | None = None,
) -> list[Panel]:
  """Groups rows and planned cells, in order of first appearance. `metric` is drawn instead of the usual one."""
  by_cell = {row.cell: row for row in rows}
  reasons = unreachable if isinstance(unreachable, Mapping) else dict.fromkeys(unreachable, "")
  cells = list(dict.fromkeys([*planned, *by_cell, *reasons]))
  rates = {(cell.data, cell.test): row.bpp for cell, row in by_cell.items() if row.bpp is not None}
  bases = {_base_of(cell.weights) for cell in cells}
  groups: dict[tuple[str, str, str, Weights], list[Cell]] = {}
  for cell in cells:
    for base in dict.fromkeys([_base_of(cell.weights), *([cell.weights] if cell.weights in bases else [])]):
      groups.setdefault((cell.task, cell.model, cell.data, base), []).append(cell)
  result = []
  for (task, model, data, base), members in groups.items():
    trainings = list(dict.fromkeys(_training(cell) for cell in members if cell.weights != base)) or [None]
    for training in trainings:
      chosen = [cell for cell in members if cell.weights == base or _training(cell) == training]
      samples = tuple(_samples(chosen, base, by_cell, rates, reasons))
      found = names.ordered_metrics(name for sample in samples for row in sample.rows for name in row.metrics)
      found = sorted(found, key=lambda m: m.name != metric) or [names.known_metric(metric or "score")]
      result.append(Panel(task, model, data, base, training, tuple(found), samples))
  return result


def _base_of(weights: Weights) -> Weights:
  """What weights were finetuned from; base weights are their own. A study may also start from control weights."""
  return weights if protocols.is_base(weights) else weights.init


def _training(cell: Cell) -> tuple[str, str]:
  return cell.weights.data, cell.weights.recipe


def _samples(
  cells: list[Cell],
  base: Weights,
  by_cell: dict[Cell, Row],
  rates: dict[tuple[str, Point], float],
  unreachable: Mapping[Cell, str],
) -> Iterator[Sample]:
  """Cells that differ in the training seed alone become one sample."""
  seeds: dict[Cell, list[Cell]] = {}
  for cell in cells:
    seeds.setdefault(dataclasses.replace(cell, weights=dataclasses.replace(cell.weights, seed=0)), []).append(cell)
  for group in seeds.values():
    cell, rows = group[0], tuple(by_cell[c] for c in group if c in by_cell)
    state = "measured" if rows else "unreachable" if cell in unreachable else "missing"
    bpp = (
      rows[0].bpp
      if rows
      else cell.test.bpp
      if state == "unreachable"
      else rates.get((cell.data, cell.test), cell.test.bpp)
    )
    trained = () if cell.weights == base else cell.weights.points
    reason = unreachable[cell] if state == "unreachable" else ""
    yield Sample(protocols.role(cell, base), cell.test, trained, cell.target, state, bpp, rows, reason=reason)


def title(panel: Panel) -> str:
  return f"{panel.model} on {specs.parse_data(panel.data).name}"
