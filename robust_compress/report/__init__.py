"""The verb `report`: rows to one page that answers the question, with its figures and tables beside it.

    rows ──curves──▶ panels ──compare──▶ gains, BD-rate, cheapest ──summary, tables──▶ report.html
                       ├──plots──▶ figures, inline and as PNG ─────────────────────────────▲
                       ├──classes──▶ losses by class and size ─────────────────────────────┤
    pictures, answers ─┼──gallery──▶ example pictures with boxes and masks ────────────────┘
                       └──csv_files──▶ cells.csv, curves.csv, classes.csv

A report is a function of what it is given: it runs nothing, needs no accelerator, and can be made again from a few
kilobytes of rows. With the store's replicates at hand, differences carry paired intervals; from rows alone they do not.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from robust_compress.report import classes, csv_files, gallery, page, summary
from robust_compress.report import failures as failing
from robust_compress.report.curves import Panel, panels
from robust_compress.report.examples import DecodedExample, Example, load_examples, save_examples
from robust_compress.report.markup import Safe, element, join
from robust_compress.report.paired import Paired, Results
from robust_compress.report.section import Section, overview, section
from robust_compress.store import write_atomic
from robust_compress.types import Cell, Row

__all__ = ["DecodedExample", "Example", "load_examples", "report", "save_examples"]


def report(
  rows: Iterable[Row],
  directory: str | os.PathLike[str],
  *,
  results: Results | None = None,
  planned: Iterable[Cell] = (),
  unreachable: Collection[Cell] | Mapping[Cell, str] = (),
  examples: str | os.PathLike[str] | None = None,
  failures: str | os.PathLike[str] | None = None,
  answers: str | os.PathLike[str] | None = None,
  per_class: classes.PerClass | None = None,
  score: float = 0.5,
  title: str = "Recognition under compression",
  metric: str | None = None,
  command: str | None = None,
) -> Path:
  """Writes report.html, PNG figures, cells.csv and curves.csv into `directory`; classes.csv where classes have scores.

  Args:
    rows: what was measured; any part of a study, none included.
    directory: made where absent; files of an earlier report are overwritten.
    results: the store of those rows, for replicates and records (`store.Store`); None makes a report without
      paired intervals.
    planned: all cells of the study, so that what has no row is drawn as missing.
    unreachable: planned cells whose target rate no level of the codec meets; with what to say of each, or without.
    examples: folder written by `save_examples`.
    failures: folder written by `against_jpeg.save_comparison`.
    answers: folder written by `answers.save_answer` and `save_classes`.
    per_class: from the records of a cell to {label: {metric: value}}, as a task of several classes a picture has it.
    score: boxes below it are not drawn.
    title: heading of the page.
    metric: name of the metric to draw, in place of the task's usual one.
    command: how this report was made, for its last section.

  Returns:
    The path of report.html.
  """
  rows, directory, paired = list(rows), Path(directory), Paired(results)
  directory.mkdir(parents=True, exist_ok=True)
  found = [paired.with_seeds(panel) for panel in panels(rows, planned, unreachable, metric)]
  write_atomic(directory / "cells.csv", csv_files.cells_csv(rows).encode())
  write_atomic(directory / "curves.csv", csv_files.curves_csv(found).encode())
  by_class = classes.ByClass(results, per_class, answers)
  if (text := classes.classes_csv(found, by_class)) is not None:
    write_atomic(directory / "classes.csv", text.encode())
  sections = [section(panel, found, paired, by_class, directory) for panel in found]
  models = overview(found, directory)
  body = [_header(title, found, sections), models, [one.body for one in sections]]
  kept = None if answers is None else gallery.Kept(answers, score)
  body += [failing.section(rows, failures, directory), gallery.section(found, examples, kept)]
  body += [_provenance(rows, found, command)] if rows else []
  path = directory / "report.html"
  write_atomic(path, page.document(title, *body).encode())
  return path


def _header(title: str, found: Sequence[Panel], sections: Sequence[Section]) -> Safe:
  if not found:
    empty = (
      "There are no rows and no planned cells, so there is nothing to report. Run `robust-compress run` first, or "
      "point the report at a folder that has rows."
    )
    return join(element("h1", title), element("p", empty, class_="answer"))
  answers = [
    element(
      "p", element("a", one.title, href=f"#{one.anchor}") if len(sections) > 1 else None, one.answer, class_="answer"
    )
    for one in sections
  ]
  return element(
    "header",
    element("p", "Rate and accuracy, measured by robust_compress", class_="kicker"),
    element("h1", title),
    element("p", summary.question(found), class_="question"),
    element("div", answers, class_="several" if len(sections) > 3 else None),
  )


def _provenance(rows: Sequence[Row], found: Sequence[Panel], command: str | None) -> Safe:
  files = element(
    "p", "Beside this page: ", element("a", "cells.csv", href="cells.csv"), " (one line a cell, full numbers), ",
    element("a", "curves.csv", href="curves.csv"), " (one line a point of a curve) and every figure as PNG.",
  )  # fmt: skip
  return element("section", element("h2", "Provenance"), page.provenance(rows, found, command), files)
