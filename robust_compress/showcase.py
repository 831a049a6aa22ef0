"""The few pictures that a report shows: originals, what the shards hold of them at every point, and what models find.

coded pictures ──keep──▶ examples/      batches ──watched predict──▶ predictions, of these few also in answers/
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from robust_compress import parallel, protocols, specs
from robust_compress.bench import Bench
from robust_compress.data.cache import CodedSource
from robust_compress.evaluate import Predict
from robust_compress.report.answers import Answer, save_answer, save_classes
from robust_compress.report.examples import DecodedExample, Example, load_examples, save_examples
from robust_compress.types import NONE, Arrays, Batch, Cell, Clip, DataError, Point, Source, StoreError, View


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
  source, view = bench.pictures.source(data), specs.parse_data(data).view
  for position in _spread(len(source), n):
    try:
      example = _example(source, position, coded, view)
    except DataError:
      if bench.config.on_bad != "skip":
        raise
      continue
    if example is not None:
      yield example


def _spread(n_examples: int, n: int) -> list[int]:
  """Positions evenly over the data: sets are often sorted by class."""
  return sorted({int(index) for index in np.linspace(0, n_examples - 1, min(n, n_examples))})


def _example(source: Source, position: int, coded: Mapping[Point, CodedSource], view: View) -> Example | None:
  """None where a point has skipped the picture."""
  original = source.picture(position)
  decoded = []
  for point, pictures in coded.items():
    index = pictures.find(position)
    if index is None:
      return None
    picture = pictures.picture(index)
    decoded.append(DecodedExample(point, _frame(picture.clip, view), picture.n_bytes))
  label = source.target(position).get("label")
  name = source.classes[int(label)] if label is not None and source.classes else None
  return Example(source.id(position), _frame(original.clip, view), original.n_bytes, name, decoded)


def _frame(clip: Clip, view: View) -> np.ndarray:
  """uint8[h w 3]: of a clip the frame that a model is fed, or the first where it is fed several."""
  return clip[min(view.frames, len(clip) - 1) if isinstance(view.frames, int) else 0]


# ------------------------------------------------------------------------------------- what models find


def watched(bench: Bench, predict: Predict, cell: Cell) -> Predict:
  """`predict` of the cell's weights at its point, keeping what they find in the pictures that are shown.

  Of tasks whose classes have a place in the picture; by base weights, and by those that were finetuned on the point.
  """
  if not hasattr(bench.task, "per_class"):
    return predict
  directory, source = bench.workdir / "answers", bench.pictures.source(cell.data)
  if parallel.host() == 0:
    save_classes(directory, cell.model, cell.data, bench.labelled(bench.models[cell.model], cell.data).classes)
  if protocols.role(dataclasses.replace(cell, target="labels")) not in "ABC":
    return predict
  shown = {source.id(position) for position in _spread(len(source), bench.config.n_examples)}

  def predict_and_keep(batch: Batch) -> Arrays:
    predictions = predict(batch)
    there = batch.get("mask", np.ones(len(batch["id"]), bool))
    rows = [row for row, id in enumerate(batch["id"]) if there[row] and str(id) in shown]
    whole = {name: np.asarray(value) for name, value in predictions.items()} if rows else {}
    for row in rows:
      answer = _answer({name: value[row] for name, value in whole.items()}, {name: batch[name][row] for name in batch})
      if answer is not None:
        save_answer(directory, cell, str(batch["id"][row]), answer)
    return predictions

  return predict_and_keep


def _answer(predicted: Mapping[str, np.ndarray], row: Mapping[str, np.ndarray]) -> Answer | None:
  """None where predictions have no place in the picture, as those of a user's own task may not."""
  if "segmentation" in predicted:
    return Answer(_classes(predicted), _classes(row) if "segmentation" in row else {})
  if "boxes" not in predicted:
    return None
  found = {name: predicted[name][predicted["labels"] >= 0] for name in ("boxes", "scores", "labels")}
  if "boxes" not in row:
    return Answer(found, {})
  truth = {"boxes": row["boxes"], "labels": row["box_labels"], "kinds": row["box_kinds"]}
  return Answer(found, {name: value[row["box_labels"] >= 0] for name, value in truth.items()})


def _classes(of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Of a segmentation on a canvas the part that is the picture's."""
  height, width = of["size"]
  return {"segmentation": of["segmentation"][:height, :width]}
