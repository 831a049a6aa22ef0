"""What exists, as tables for people: `robust-compress list codecs|models|datasets|tasks|protocols`."""

from __future__ import annotations

from collections.abc import Sequence

from robust_compress import codecs, models, protocols, specs, tasks
from robust_compress.data import catalogue
from robust_compress.types import SpecError


def table(what: str) -> str:
  """One of the tables, a row a line."""
  head, rows = {
    "codecs": _codecs, "models": _models, "datasets": _datasets, "tasks": _tasks, "protocols": _protocols,
  }[what]()  # fmt: skip
  return _aligned([head, *rows])


def _codecs() -> tuple[list[str], list[list[str]]]:
  rows = [["none", "", "pictures as they are; never coded"]]
  for name, (_, doc) in codecs.CODECS.items():
    try:
      levels = " ".join(map(specs.format_number, codecs.load_codec(name).levels))
    except SpecError as error:  # of an extra that is not installed
      levels = str(error).rpartition("; ")[2]
    rows.append([name, levels, doc])
  return ["codec", "usual levels, low rate to high", "options"], rows


def _models() -> tuple[list[str], list[list[str]]]:
  rows = []
  for name in models.MODELS:
    model = models.load_model(name)
    published = model.published
    score = f"{published.metric} {100 * published.score:.1f} %" if published else ""
    size = "x".join(map(str, model.input.size))
    rows.append([name, f"{model.n_params:,}", size, score, published.source if published else ""])
  return ["model", "parameters", "input", "published", "source of the score"], rows


def _datasets() -> tuple[list[str], list[list[str]]]:
  return ["data set", "what it is"], [[name, doc] for name, doc in catalogue.described().items()]


def _tasks() -> tuple[list[str], list[list[str]]]:
  rows = []
  for name in tasks.TASKS:
    task = tasks.load_task(name)
    rows.append([name, task.primary_metric, "higher" if task.higher_is_better else "lower"])
  return ["task", "primary metric", "is better when"], rows


def _protocols() -> tuple[list[str], list[list[str]]]:
  return ["protocol", "measures"], [[name, doc] for name, (_, doc) in protocols.PROTOCOLS.items()]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
  widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
  return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
