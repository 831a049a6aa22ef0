"""What a report draws, as CSV with full numbers: one line a cell, one line a point of a curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from robust_compress import specs
from robust_compress.rate import TOLERANCE
from robust_compress.report import names
from robust_compress.report.curves import CURVE_ROLES, Panel, Sample
from robust_compress.types import Row


def cells_csv(rows: Iterable[Row]) -> str:
  """One line a row of the store, full numbers; a metric and its interval are three columns."""
  rows = list(rows)
  metrics = [metric.name for metric in names.ordered_metrics(name for row in rows for name in row.metrics)]
  fields = [
    "key",
    "task",
    "model",
    "data",
    "test",
    "target",
    "trained_on",
    "training_data",
    "recipe",
    "seed",
    "weights",
  ]
  fields += ["n", "n_skipped", "n_bytes", "n_pixels", "bpp", "bpp_mean", *_TARGET]
  fields += [column for name in metrics for column in (name, f"{name}_low", f"{name}_high")] + ["wall_s"]
  lines = []
  for row in rows:
    cell, weights = row.cell, row.cell.weights
    line = {
      "key": specs.cell_key(cell),
      "task": cell.task,
      "model": cell.model,
      "data": cell.data,
      "test": str(cell.test),
    }
    line |= {"target": cell.target, "trained_on": " ".join(map(str, weights.points)), "training_data": weights.data}
    line |= {"recipe": weights.recipe, "seed": weights.seed, "weights": specs.weights_key(weights)}
    line |= {
      name: getattr(row, name) for name in ("n", "n_skipped", "n_bytes", "n_pixels", "bpp", "bpp_mean", "wall_s")
    }
    line |= _target(row)
    for name, value in row.metrics.items():
      low, high = row.intervals.get(name) or (None, None)
      line |= {name: value, f"{name}_low": low, f"{name}_high": high}
    lines.append(line)
  return to_csv(fields, lines)


_TARGET = ("asked_bpp", "miss", "missed", "share_off", "level_min", "level_median", "level_max")


def _target(row: Row) -> dict[str, Any]:
  """Of a row at a target rate: how far it missed, and by which levels; `share_off` is of pictures, each for itself."""
  if row.cell.test.bpp is None:
    return {}
  said = row.provenance.get("target_rate", {})
  miss = None if row.bpp is None else row.bpp / row.cell.test.bpp - 1
  levels = said.get("levels") or (None, None, None)
  return dict(
    zip(_TARGET, (row.cell.test.bpp, miss, miss is not None and abs(miss) > TOLERANCE, said.get("share_off"), *levels))
  )


def curves_csv(panels: Iterable[Panel]) -> str:
  """One line a point of a curve and metric, in the order drawn, gaps included."""
  fields = [
    "task",
    "model",
    "data",
    "scenario",
    "codec",
    "level",
    "asked_bpp",
    "bpp",
    "miss",
    "metric",
    "value",
    "low",
    "high",
  ]
  fields += ["n", "n_seeds", "state"]
  lines = []
  for panel in panels:
    where = {"task": panel.task, "model": panel.model, "data": panel.data}
    for sample in _drawn(panel):
      point = sample.test
      line = where | {
        "scenario": sample.role,
        "codec": names.codec_key(point),
        "level": point.level,
        "asked_bpp": point.bpp,
      }
      line |= {"bpp": sample.bpp, "miss": sample.rate_miss, "state": sample.state, "n_seeds": len(sample.rows)}
      line |= {"n": sample.rows[0].n} if sample.rows else {}
      for metric in panel.metrics:
        low, high = sample.interval(metric.name) or (None, None)
        lines.append(line | {"metric": metric.name, "value": sample.value(metric.name), "low": low, "high": high})
  return to_csv(fields, lines)


def _drawn(panel: Panel) -> Iterable[Sample]:
  if panel.baseline:
    yield panel.baseline
  for role in (*CURVE_ROLES, "relative"):
    for codec in panel.codecs((role,)):
      for state in ("measured", "missing", "unreachable"):
        yield from panel.curve(role, codec, state)


def to_csv(fields: Sequence[str], lines: Iterable[dict[str, Any]]) -> str:
  """Text cells that a spreadsheet would run as a formula are made plain text by a leading apostrophe."""
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, fields, lineterminator="\n")
  writer.writeheader()
  for line in lines:
    writer.writerow(
      {k: f"'{v}" if isinstance(v, str) and v[:1] in ("=", "+", "@", "-") else v for k, v in line.items()}
    )
  return buffer.getvalue()
