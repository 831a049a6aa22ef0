"""Which detections of one picture are right, at every threshold and size at once: COCO's rule, and VOC's.

    boxes, scores, labels ──best first──▶ matched to the truth of their class ──▶ hits, skipped uint64[n], by columns
    truth ─────────────────────────────▶ the sizes in which it counts ──────────▶ truth_groups uint8[k], by groups

A column, one bit, is a way to tell right from wrong. Column 10·g + i is COCO's at the i-th IoU of 0.5, 0.55 … 0.95 in
size group g (all, small, medium, large); columns 40 and 41 are PASCAL VOC's of 2007 and 2010, at IoU 0.5, and group 4.
In a column a detection is a hit, or skipped (neither right nor wrong), or wrong.

COCO's rule is that of `COCOeval.evaluateImg` in pycocotools, decision for decision. The best 100 detections of a class
in a picture count; each takes the free object that it overlaps most, of equal ones the later. Crowds, and objects
outside the group's sizes, are taken where nothing else is left; crowds any number of times, and by the share of the
detection that lies in them. VOC's rule is that of the development kit (Everingham et al. 2010): a detection belongs to
the object that it overlaps most, of equal ones the first, taken or not; what belongs to a difficult object is skipped.

Each knows a kind that the other does not. Difficult objects are to COCO as if outside every size; what belongs to no
object of VOC and lies half in a crowd is skipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robust_compress.types import CROWD, DIFFICULT, OBJECT

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # areas in pixels, both ends included
VOC07, VOC10 = 40, 41  # columns; they differ in how recall is averaged over, not in hits
GROUPS = (*(slice(10 * g, 10 * g + 10) for g in range(len(SIZES))), slice(VOC07, VOC10 + 1))  # columns of each group
MAX_DETECTIONS = 100  # of a class in a picture

_ALL = (1 << VOC07) - 1  # every column of COCO
_BOTH = np.uint64(1 << VOC07 | 1 << VOC10)
_TEN = (1 << 10) - 1  # those of one group
_EACH_GROUP = sum(1 << 10 * g for g in range(len(SIZES)))


class Found(NamedTuple):
  """Detections in a picture, best first."""

  boxes: np.ndarray  # float64[n 4]: x0 y0 x1 y1
  scores: np.ndarray  # float32[n]
  labels: np.ndarray  # int32[n]


class Truth(NamedTuple):
  """What there is in a picture."""

  boxes: np.ndarray  # float64[k 4]
  labels: np.ndarray  # int32[k]
  areas: np.ndarray  # float64[k], by which sizes are told apart
  kinds: np.ndarray  # uint8[k]


def record(found: Found, truth: Truth) -> dict[str, np.ndarray]:
  """What suffices for every metric of one picture: its detections by columns, and the objects of `OBJECT` kind."""
  overlaps = _overlaps(found, truth)
  hits, skipped = _coco(found, truth, overlaps)
  voc_hits, voc_skipped = _voc(truth, overlaps)
  counts = truth.kinds == OBJECT
  inside = np.stack([*(_inside(truth.areas, size) for size in SIZES), counts])
  return {
    "scores": found.scores.astype(np.float32),
    "labels": found.labels.astype(np.int16),
    "hits": hits | np.where(voc_hits, _BOTH, 0),
    "skipped": skipped | np.where(voc_skipped, _BOTH, 0),
    "truth_labels": truth.labels[counts].astype(np.int16),
    "truth_groups": np.packbits(inside, axis=0, bitorder="little")[0, counts],
  }


def _inside(areas: np.ndarray, size: tuple[float, float]) -> np.ndarray:
  return (areas >= size[0]) & (areas <= size[1])


def _by_size(areas: np.ndarray) -> np.ndarray:
  """uint64[n]: the columns of the groups in which a box of such an area counts."""
  columns = [np.where(_inside(areas, size), np.uint64(_TEN << 10 * g), 0) for g, size in enumerate(SIZES)]
  return np.bitwise_or.reduce(np.array(columns, np.uint64), axis=0)


def _area(boxes: np.ndarray) -> np.ndarray:
  return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlaps(found: Found, truth: Truth) -> np.ndarray:
  """float64[n k]: IoU, with crowds the share of the detection that lies in them; 0 between different classes."""
  a, b = found.boxes[:, None], truth.boxes[None]
  sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
  common = np.where((sides > 0).all(-1), sides.prod(-1), 0.0)
  own = _area(found.boxes)[:, None]
  whole = np.where(truth.kinds == CROWD, own, own + _area(truth.boxes) - common)
  same = found.labels[:, None] == truth.labels
  return np.divide(common, whole, out=np.zeros_like(common), where=same & (common > 0))


# ------------------------------------------------------------------------------------------------- rules


def _coco(found: Found, truth: Truth, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(hits, skipped), uint64[n] each.

  All columns are decided at once, each a bit of an integer; a picture has few overlaps of half and more, so plain
  Python over these is fast.
  """
  n = len(found.labels)
  beyond = _beyond(found.labels)
  counted = np.where(truth.kinds == OBJECT, _by_size(truth.areas), np.uint64(0)).tolist()
  crowd = np.where(truth.kinds == CROWD, np.uint64(_ALL), np.uint64(0)).tolist()
  free = [_ALL] * len(counted)
  hits, skipped = [0] * n, [0] * n
  for detection, pairs in _pairs(np.where(beyond[:, None], 0.0, overlaps)).items():
    left = _ALL
    for index, near in pairs:
      taken = left & near & free[index] & counted[index]
      hits[detection] |= taken
      free[index] &= ~taken
      left &= ~taken
    for index, near in pairs:
      taken = left & near & (free[index] | crowd[index]) & ~counted[index]
      skipped[detection] |= taken
      free[index] &= ~taken
      left &= ~taken
  right, neither = np.array(hits, np.uint64), np.array(skipped, np.uint64)
  outside = ~_by_size(_area(found.boxes)) & np.uint64(_ALL)
  return right, np.where(beyond, np.uint64(_ALL), neither | (outside & ~right))


def _beyond(labels: np.ndarray) -> np.ndarray:
  """bool[n]: not among the best of its class."""
  if len(labels) <= MAX_DETECTIONS:
    return np.zeros(len(labels), bool)
  return np.tril(labels[:, None] == labels, -1).sum(1) >= MAX_DETECTIONS


def _pairs(overlaps: np.ndarray) -> dict[int, list[tuple[int, int]]]:
  """{detection: [(object, columns whose threshold is reached)]}, best detection first, nearest object first."""
  detections, objects = np.nonzero(overlaps >= THRESHOLDS[0])
  near = overlaps[detections, objects]
  order = np.lexsort((-objects, -near, detections))
  n_reached = np.searchsorted(THRESHOLDS, near[order], "right").tolist()
  pairs: dict[int, list[tuple[int, int]]] = {}
  for detection, index, n in zip(detections[order].tolist(), objects[order].tolist(), n_reached):
    pairs.setdefault(detection, []).append((index, ((1 << n) - 1) * _EACH_GROUP))
  return pairs


def _voc(truth: Truth, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(hits, skipped), bool[n] each."""
  n = len(overlaps)
  crowd = truth.kinds == CROWD
  single = np.where(crowd, 0.0, overlaps)
  if not single.size:
    return np.zeros(n, bool), np.zeros(n, bool)
  best = single.argmax(1)
  near = single.max(1) >= THRESHOLDS[0]
  difficult = near & (truth.kinds[best] == DIFFICULT)
  own = np.flatnonzero(near & ~difficult)
  hits = np.zeros(n, bool)
  hits[own[np.unique(best[own], return_index=True)[1]]] = True  # the first of those that belong to an object
  in_crowd = np.where(crowd, overlaps, 0.0).max(1) >= THRESHOLDS[0]
  return hits, difficult | (in_crowd & ~near)
