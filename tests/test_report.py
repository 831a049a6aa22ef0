"""Reports from invented rows: a world in which what each number must be is known."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import re

import numpy as np
import pytest

from robust_compress import protocols, specs, statistics
from robust_compress.protocols import Grid
from robust_compress.report import DecodedExample, Example, load_examples, report, save_examples
from robust_compress.report import compare, curves, markup, plots, published
from robust_compress.report.compare import Paired
from robust_compress.store import Store
from robust_compress.types import NONE, Cell, DataError, Point, Recipe, Row, Weights

DATA = "imagenet2012(crop=224,resize=256):validation[:400]"
N = 400
POINTS = tuple(map(specs.parse_point, [
  "jpeg@5", "jpeg@10", "jpeg@20", "jpeg@50", "jpeg@90", "webp@1", "webp@10", "webp@30", "webp@60", "webp@95",
]))  # fmt: skip
TUNED = tuple(map(specs.parse_point, ["jpeg@5", "jpeg@10", "jpeg@20", "webp@1", "webp@10"]))
IDS = [f"picture-{i:04d}" for i in range(N)]
EASE = np.random.default_rng(7).normal(size=N)  # how much a picture can lose before it is misread


def grid(**changes) -> Grid:
  fields = {"task": "classification", "model": "resnet18.toy", "base": Weights("file:0123"), "test_data": DATA}
  fields |= {"train_data": "imagenet2012:train[:5000]", "points": POINTS, "finetune_points": TUNED}
  return Grid(**fields | {"recipe": Recipe(epochs=3).canonical()} | changes)


def rate_of(point: Point) -> float:
  if point.bpp is not None:
    return point.bpp
  return {"jpeg": 0.065, "webp": 0.05, "avif": 0.03}[point.codec] * point.level**0.78 + 0.12


def harm(cell: Cell) -> float:
  """How hard a cell's pictures are for its weights; finetuning halves what compression does."""
  lost = 0.0 if cell.test == NONE else 0.62 / rate_of(cell.test) * (0.8 if cell.test.codec == "webp" else 1.0) - 0.42
  share = {"control": 0.95, "mixed": 0.6, "C": 0.42, "matrix": 0.7}.get(protocols.role(cell), 1.0)
  return max(lost, 0) * share - 0.9 + 0.04 * cell.weights.seed + (0.02 if cell.weights.points else 0.0)


def correct(cell: Cell) -> np.ndarray:
  """bool[n]: against the labels, or against the same weights on originals."""
  noise = np.random.default_rng(int(specs.cell_key(cell), 16)).normal(size=N)
  right = EASE + (0.04 if cell.test != NONE else 0) * noise > harm(cell)
  if cell.target == "labels":
    return right
  return right == correct(dataclasses.replace(cell, test=NONE, target="labels"))


def compute(records, weights=None):
  return {name.replace("correct", "top"): float(np.average(records[name], weights=weights)) for name in records}


def measure(store: Store | None, cell: Cell) -> Row:
  records = {"correct1": correct(cell).astype(np.uint8)}
  records["correct5"] = (correct(cell) | (EASE > harm(cell) - 0.8)).astype(np.uint8)
  drawn = statistics.replicates(compute, records, IDS, n_replicates=200)
  known = cell.test != NONE
  bpp = rate_of(cell.test) if known else None
  n_pixels = N * 224 * 224
  provenance = {"time": "2026-01-02T03:04:05", "versions": {"numpy": "2.4.0", "pillow": "13.0"}, "command": "run"}
  provenance["hardware"] = {"cpu": "invented", "n_cpu": 2}
  row = Row(
    cell, N, compute(records), {name: statistics.interval(values) for name, values in drawn.items()},
    int(bpp * n_pixels / 8) if known else None, n_pixels, bpp, bpp and bpp * 1.03, {"codec": f"fake {cell.test.codec}", "metric": "1"},
    provenance, 1.5,
  )  # fmt: skip
  if store is not None:
    store.put_records(cell, IDS, records, drawn)
    store.put(row)
  return row


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
  """A study of one model by all seven protocols, three of its cells not measured yet."""
  store = Store(tmp_path_factory.mktemp("study"))
  for cell in plan()[:-3]:
    measure(store, cell)
  return store


def plan(names=("baseline", "control", "relative", "matrix", "mixed", "finetuned", "shifted"), **changes) -> list[Cell]:
  cells = protocols.plan(grid(**changes), names)
  gaps = {"jpeg@90", "webp@95", "webp@60"}  # of scenario B; moved last
  return sorted(cells, key=lambda c: str(c.test) in gaps and protocols.role(c) == "B")
