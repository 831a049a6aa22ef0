"""What compression costs each class, and objects of each size.

    records of A, B, C ──per_class──▶ scores by class ──▶ a table a setting, largest losses first; classes.csv has all
    rows ────────────────────────────────────────────────▶ AP of small, medium and large objects

Tasks whose records say how well each class is found have such tables, others have none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robust_compress import specs
from robust_compress.report import names
from robust_compress.report.answers import class_name, load_classes
from robust_compress.report.csv_files import to_csv
from robust_compress.report.curves import Panel, Sample
from robust_compress.report.paired import Paired, Results
from robust_compress.report.tables import Table, estimate_cells
from robust_compress.types import Cell, StoreError

Scores = Mapping[int, Mapping[str, float]]  # label -> {metric: value}, the most telling metric first
PerClass = Callable[[dict[str, np.ndarray]], Scores]  # of the records of all pictures

MANY = 8  # settings of a panel, beyond which two of each codec are shown
SHOWN = 20  # classes of a setting
SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


class Setting(NamedTuple):
  """A point with base weights on originals, on it, and finetuned on it, all over the same pictures."""

  a: Sample
  b: Sample
  c: Sample | None


def settings(panel: Panel, paired: Paired) -> list[Setting]:
  """Where B can be held against A, by codec and rate: all, or where they are many, each codec's cheapest and middle."""
  a = panel.baseline
  if a is None:
    return []
  curves = [[b for b in panel.curve("B", codec) if not paired.differ(a, b)] for codec in panel.codecs(("B",))]
  if sum(map(len, curves)) > MANY:
    curves = [[curve[i] for i in sorted({0, len(curve) // 2})] for curve in curves if curve]
  return [Setting(a, b, _finetuned(panel, paired, a, b)) for curve in curves for b in curve]


def _finetuned(panel: Panel, paired: Paired, a: Sample, b: Sample) -> Sample | None:
  c = panel.find("C", b.test)
  return None if c is None or paired.differ(a, c) else c


class ByClass:
  """Scores by class of the cells that a store has records of.

  Args:
    results: the store; None: no cell has scores.
    per_class: from the records of a cell to its scores; None where the task has none.
    answers: folder in which names of classes were kept (`answers.save_classes`).
  """

  def __init__(
    self, results: Results | None, per_class: PerClass | None, answers: str | os.PathLike[str] | None = None
  ):
    self._results, self._per_class, self._answers = results, per_class, answers
    self._read: dict[Cell, Scores] = {}

  def of(self, sample: Sample) -> Scores:
    """Means over the training seeds that have the class; {} where there are no records."""
    found = [self.of_cell(row.cell) for row in sample.rows]
    merged: dict[int, dict[str, float]] = {}
    for label in sorted({label for scores in found for label in scores}):
      values = [scores[label] for scores in found if label in scores]
      merged[label] = {name: float(np.mean([value[name] for value in values])) for name in values[0]}
    return merged

  def of_cell(self, cell: Cell) -> Scores:
    if self._results is None or self._per_class is None:
      return {}
    if cell not in self._read:
      try:
        self._read[cell] = self._per_class(self._results.records(cell)[1])
      except StoreError:  # rows alone, as in a published results folder
        self._read[cell] = {}
    return self._read[cell]

  def names(self, panel: Panel) -> Sequence[str]:
    return [] if self._answers is None else load_classes(self._answers, panel.model, panel.data)


# ---------------------------------------------------------------------------------------------- by class


class Line(NamedTuple):
  """One class at a setting; nan where it has no score."""

  name: str
  a: float
  b: float
  c: float
  lost: float  # B − A, turned so that less is a loss


def lines(panel: Panel, setting: Setting, by_class: ByClass) -> tuple[names.Metric, list[Line]] | None:
  """The classes of a setting, largest losses first, by the task's most telling metric; None without records."""
  a, b = by_class.of(setting.a), by_class.of(setting.b)
  if not a or not b:
    return None
  c, classes = by_class.of(setting.c) if setting.c else {}, by_class.names(panel)
  metric = names.known_metric(next(iter(next(iter(a.values())))))
  found = []
  for label in sorted({*a, *b}):
    values = [scores.get(label, {}).get(metric.name, np.nan) for scores in (a, b, c)]
    found.append(Line(class_name(classes, label), *values, metric.better(values[1] - values[0])))
  return metric, sorted(found, key=lambda line: (np.isnan(line.lost), line.lost))


def class_table(metric: names.Metric, found: Sequence[Line], has_c: bool) -> Table:
  """The first `SHOWN` lines."""
  columns = [("class", False), ("A", True), ("B", True), (f"B − A ({metric.step})", True)]
  columns += [("C", True), (f"C − B ({metric.step})", True)] if has_c else []
  body = []
  for line in found[:SHOWN]:
    cells = [line.name, metric.text(line.a), metric.text(line.b), metric.text(line.b - line.a, signed=True)]
    body.append((*cells, *([metric.text(line.c), metric.text(line.c - line.b, signed=True)] if has_c else [])))
  return Table(f"{metric.title} by class", tuple(columns), tuple(body))


def headline(metric: names.Metric, setting: Setting, found: Sequence[Line]) -> str:
  """'JPEG, quality 5, 0.31 bpp: disc loses most, −31.2 points'."""
  where, worst = names.placed_title(setting.b.test, setting.b.bpp), found[0]
  if np.isnan(worst.lost) or worst.lost >= 0:
    return f"{where}: no class loses"
  return f"{where}: {worst.name} loses most, {metric.text(worst.b - worst.a, signed=True)} {metric.step}"


def classes_csv(panels: Iterable[Panel], by_class: ByClass) -> str | None:
  """One line a class of every row of A, B and C, full numbers; None where none has scores."""
  found = [line for panel in panels for line in _csv_lines(panel, by_class)]
  if not found:
    return None
  fields = list(dict.fromkeys(name for line in found for name in line))
  return to_csv(fields, list({(line["key"], line["label"]): line for line in found}.values()))


def _csv_lines(panel: Panel, by_class: ByClass) -> Iterator[dict[str, Any]]:
  classes = by_class.names(panel)
  for sample in panel.samples:
    for row in sample.rows if sample.role in "ABC" else ():
      where = {"key": specs.cell_key(row.cell), "task": panel.task, "model": panel.model, "data": panel.data}
      where |= {"scenario": sample.role, "test": str(sample.test), "bpp": row.bpp, "seed": row.cell.weights.seed}
      for label, scores in by_class.of_cell(row.cell).items():
        yield {**where, "label": label, "class": class_name(classes, label), **scores}


# ----------------------------------------------------------------------------------------------- by size


def size_table(panel: Panel, paired: Paired) -> Table | None:
  """A line a setting and size of objects; sizes that no object has are left out, and None is a panel without any."""
  sizes = [metric for metric in panel.metrics if metric.name in SIZES]
  shown = settings(panel, paired)
  has_c = any(setting.c for setting in shown)
  body = [
    _size_line(setting, metric, paired, has_c) for setting in shown for metric in sizes if _is_in(setting, metric)
  ]
  if not body:
    return None
  step = sizes[0].step
  columns = [("codec", False), ("setting", False), ("bpp", True), ("objects", False), ("A", True), ("B", True)]
  columns += [(f"B − A ({step})", True), ("95 %", True)]
  columns += [("C", True), (f"C − B ({step})", True), ("95 %", True)] if has_c else []
  return Table("Loss by size of objects", tuple(columns), tuple(body))


def _is_in(setting: Setting, metric: names.Metric) -> bool:
  return setting.a.value(metric.name) is not None


def _size_line(setting: Setting, metric: names.Metric, paired: Paired, has_c: bool) -> tuple[Any, ...]:
  def less(one: Sample, other: Sample) -> tuple[str, str]:
    return estimate_cells(paired.estimate(lambda x, y: x - y, metric.name, one, other), metric)

  a, b, c = setting
  where = names.codec_title(b.test), names.setting_text(b.test), names.bpp_text(b.bpp), SIZES[metric.name]
  line = *where, metric.text(a.value(metric.name)), metric.text(b.value(metric.name)), *less(b, a)
  if not has_c:
    return line
  return (*line, "–", "–", "") if c is None else (*line, metric.text(c.value(metric.name)), *less(c, b))
