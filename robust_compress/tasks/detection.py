"""Objects in boxes: average precision as COCO and PASCAL VOC define it.

    boxes in the input ──predict──▶ boxes in the view ──statistics──▶ hits and skips at every threshold and size
                                                     ──compute──▶ AP, AP50, AP75, APs, APm, APl, AR, VOC07, VOC10

A detector owns its losses (`models/dense.py`); what moves boxes with pixels happens before the batch. Matching and its
rules are in `coco.py`, curves in `average_precision.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from robust_compress.tasks import coco
from robust_compress.tasks.average_precision import Curves
from robust_compress.tasks.unmixed import Unmixed
from robust_compress.types import Arrays, TrainError

_RECORDS = ("scores", "labels", "hits", "skipped", "truth_labels", "truth_groups")
_COCO = {"AP": slice(0, 10), "AP50": 0, "AP75": 5, "APs": slice(10, 20), "APm": slice(20, 30), "APl": slice(30, 40)}
_COLUMNS = {**_COCO, "VOC07": coco.VOC07, "VOC10": coco.VOC10}


class Detection(Unmixed):
  """COCO's AP over the classes that have an object; VOC's beside it."""

  name = "detection"
  version = "1"
  primary_metric = "AP"
  higher_is_better = True

  def __init__(self) -> None:
    self._last: tuple[tuple[np.ndarray, ...], Curves] | None = None

  def loss(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """Raises TrainError: there is no loss that detectors share."""
    raise TrainError(
      "detection: the model brings no loss of its own; a ModelSpec needs own_loss, as models.dense.own_loss is"
    )

  def predict(self, outputs: Any, batch: Arrays) -> Arrays:
    """{'boxes' float32[b n 4], 'scores' float32[b n], 'labels' int32[b n]}: best first, in pixels of the view.

    Boxes end where the picture does: at the extent of 'place', and of 'size' where the batch has it.
    """
    boxes = outputs["boxes"].astype(jnp.float32)
    if "place" in batch:
      y0, x0, sy, sx, height, width = (column[:, None, None] for column in jnp.asarray(batch["place"], jnp.float32).T)
      scale, start = jnp.concatenate([sx, sy, sx, sy], -1), jnp.concatenate([x0, y0, x0, y0], -1)
      extent = jnp.concatenate([width, height, width, height], -1)
      boxes = start + scale * jnp.clip(boxes, 0, extent)
    if "size" in batch:
      height, width = (column[:, None, None] for column in jnp.asarray(batch["size"], jnp.float32).T)
      boxes = jnp.clip(boxes, 0, jnp.concatenate([width, height, width, height], -1))
    return {
      "boxes": boxes,
      "scores": outputs["scores"].astype(jnp.float32),
      "labels": outputs["labels"].astype(jnp.int32),
    }

  def as_targets(self, predictions: Arrays, score: float = 0.5) -> dict[str, np.ndarray]:
    """Detections of at least `score` as the objects that there are (Reich 2024): target 'self(score=0.5)'.

    Those without area are left out, as objects without are: nothing could find them again. The default suits softmax
    scores; detectors of sigmoid scores, such as DDOD, reach less and want a lower one.
    """
    boxes, scores, labels = (
      _dense(predictions[name], fill) for name, fill in (("boxes", 0), ("scores", 0), ("labels", -1))
    )
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    labels = np.where((scores >= score) & (areas > 0), labels, -1).astype(np.int32)
    return {"boxes": boxes, "box_labels": labels, "box_areas": areas, "box_kinds": np.zeros(labels.shape, np.uint8)}

  def statistics(self, predictions: Arrays, targets: Arrays) -> list[dict[str, np.ndarray]]:
    """`coco.record` of each example; a label of -1 is no detection and no object."""
    names = ("boxes", "scores", "labels"), ("boxes", "box_labels", "box_areas", "box_kinds")
    rows = zip(*(predictions[name] for name in names[0]), *(targets[name] for name in names[1]), strict=True)
    return [coco.record(_found(*row[:3]), _truth(*row[3:])) for row in rows]

  def compute(self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """Means over the classes that have an object, of that size for APs, APm and APl; nan where none has.

    AR is the recall of all detections (at most 100 of a class and picture), a mean over classes and COCO's thresholds.
    """
    scores = self._curves(records).scores(weights)
    found = {name: _mean(scores.ap[columns]) for name, columns in _COLUMNS.items()}
    return {**found, "AR": _mean(scores.recall[:10])}

  def per_class(
    self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None
  ) -> dict[int, dict[str, float]]:
    """{class: {'AP', 'AP50', …}} of every class that has an object; sizes in which it has none are nan."""
    curves = self._curves(records)
    ap = curves.scores(weights).ap
    return {
      int(label): {name: float(np.mean(ap[columns, index])) for name, columns in _COLUMNS.items()}
      for index, label in enumerate(curves.classes)
    }

  def _curves(self, records: Mapping[str, np.ndarray]) -> Curves:
    """Sorted once for the thousand sets of weights of a bootstrap, which come with the same arrays."""
    arrays = tuple(records[name] for name in _RECORDS)
    if self._last is None or any(a is not b for a, b in zip(self._last[0], arrays)):
      self._last = arrays, Curves(records)
    return self._last[1]


def _mean(values: np.ndarray) -> float:
  """Over what is defined; nan where nothing is."""
  defined = values[~np.isnan(values)]
  return float(defined.mean()) if len(defined) else float("nan")


def _dense(values: np.ndarray, fill: float) -> np.ndarray:
  """[n k …], of pictures with different numbers of detections the shorter filled up."""
  if values.dtype != object:
    return np.asarray(values)
  longest = max(len(value) for value in values)
  return np.stack(
    [np.concatenate([value, np.full((longest - len(value), *value.shape[1:]), fill, value.dtype)]) for value in values]
  )


def _found(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> coco.Found:
  there = np.flatnonzero(np.asarray(labels) >= 0)
  order = there[np.argsort(-np.asarray(scores)[there], kind="stable")]
  return coco.Found(np.asarray(boxes, np.float64)[order], np.asarray(scores)[order], np.asarray(labels)[order])


def _truth(boxes: np.ndarray, labels: np.ndarray, areas: np.ndarray, kinds: np.ndarray) -> coco.Truth:
  there = np.asarray(labels) >= 0
  return coco.Truth(
    np.asarray(boxes, np.float64)[there],
    np.asarray(labels)[there],
    np.asarray(areas, np.float64)[there],
    np.asarray(kinds)[there],
  )
