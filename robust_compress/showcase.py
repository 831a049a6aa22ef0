"""The few pictures that a report shows, original and decoded at every point that is tested, with their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robust_compress.bench import Bench
from robust_compress.report.examples import DecodedExample, Example, load_examples, save_examples
from robust_compress.types import NONE, Cell, CodecError, DataError, Point


def keep(bench: Bench, cells: Sequence[Cell], n: int) -> None:
  """Writes n pictures of each test set that the cells name into the workdir, unless they are there."""
  folder = bench.workdir / "examples"
  for data in dict.fromkeys(cell.data for cell in cells if n):
    points = [test for test in dict.fromkeys(cell.test for cell in cells if cell.data == data) if test != NONE]
    there = load_examples(folder, data)
    if not there or {one["point"] for one in there[0]["decoded"]} != {str(point) for point in points}:
      save_examples(folder, data, list(_examples(bench, data, n, points)))


def _examples(bench: Bench, data: str, n: int, points: Sequence[Point]) -> Iterator[Example]:
  """Under on_bad='skip' without those that cannot be read or coded."""
  for index in _spread(len(bench.source(data)), n):
    try:
      yield _example(bench, data, index, points)
    except (DataError, CodecError):
      if bench.config.on_bad != "skip":
        raise


def _spread(n_examples: int, n: int) -> list[int]:
  """Indices evenly over the data: sets are often sorted by class."""
  return sorted({int(index) for index in np.linspace(0, n_examples - 1, min(n, n_examples))})


def _example(bench: Bench, data: str, index: int, points: Sequence[Point]) -> Example:
  source = bench.source(data)
  original = source.picture(index)
  decoded = []
  for point in points:
    codec = bench.codec(point)
    [coded] = codec.encode([original.clip], [bench.level(point)])
    [clip] = codec.decode([coded.blob])
    decoded.append(DecodedExample(point, clip[0], len(coded.blob)))
  label = source.target(index).get("label")
  name = source.classes[int(label)] if label is not None and source.classes else None
  return Example(source.id(index), original.clip[0], original.n_bytes, name, decoded)
