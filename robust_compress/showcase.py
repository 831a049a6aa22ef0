"""The few pictures that a report shows: originals, and what the shards hold of them at every point."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from robust_compress.bench import Bench
from robust_compress.data.cache import CodedSource
from robust_compress.report.examples import DecodedExample, Example, load_examples, save_examples
from robust_compress.types import NONE, Cell, DataError, Point, Source, StoreError


def keep(bench: Bench, cells: Sequence[Cell], n: int) -> None:
  """Writes n pictures of each test set that the cells name into the workdir, unless they are there.

  Points that are not coded, such as a target rate out of the codec's reach, are not shown. Written again where the
  points that are shown are no longer tested, or others have been coded since.
  """
  folder = bench.workdir / "examples"
  for data in dict.fromkeys(cell.data for cell in cells if n):
    points = {str(cell.test): cell.test for cell in cells if cell.data == data and cell.test != NONE}
    there = load_examples(folder, data)
    shown = {one["point"] for one in there[0]["decoded"]} if there else set()
    if there and shown == set(points):
      continue
    coded = _coded(bench, data, list(points.values()))
    if not there or shown - set(points) or {str(point) for point in coded} - shown:
      save_examples(folder, data, list(_examples(bench, data, n, coded)))


def _coded(bench: Bench, data: str, points: Sequence[Point]) -> dict[Point, CodedSource]:
  found = {}
  for point in points:
    with contextlib.suppress(StoreError):  # nothing complete is there
      found[point] = bench.pictures.source(data, point)
  return found


def _examples(bench: Bench, data: str, n: int, coded: Mapping[Point, CodedSource]) -> Iterator[Example]:
  """Under on_bad='skip' without those that could not be read or coded."""
  source = bench.pictures.source(data)
  for position in _spread(len(source), n):
    try:
      example = _example(source, position, coded)
    except DataError:
      if bench.config.on_bad != "skip":
        raise
      continue
    if example is not None:
      yield example


def _spread(n_examples: int, n: int) -> list[int]:
  """Positions evenly over the data: sets are often sorted by class."""
  return sorted({int(index) for index in np.linspace(0, n_examples - 1, min(n, n_examples))})


def _example(source: Source, position: int, coded: Mapping[Point, CodedSource]) -> Example | None:
  """None where a point has skipped the picture."""
  original = source.picture(position)
  decoded = []
  for point, pictures in coded.items():
    index = pictures.find(position)
    if index is None:
      return None
    picture = pictures.picture(index)
    decoded.append(DecodedExample(point, picture.clip[0], picture.n_bytes))
  label = source.target(position).get("label")
  name = source.classes[int(label)] if label is not None and source.classes else None
  return Example(source.id(position), original.clip[0], original.n_bytes, name, decoded)
