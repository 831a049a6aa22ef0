"""Average precision of all classes in every column of `coco.py`, over pictures with weights.

    records ──Curves: sorted by class and score, once──▶ the hits of every curve, best first
    weights[n] ──running sums──▶ precision and recall at each hit ──envelope──▶ ap[42 c]

A curve is that of a class in a column. Only its hits matter: recall rises nowhere else, and precision is nowhere
higher. With weights that count how often a picture was drawn, the numbers are those of a set that holds it so many
times. A curve whose class has no object under the weights has no average precision: nan.

COCO averages precision over the recalls 0, 0.01 … 1 (`COCOeval.accumulate`), VOC 2007 over 0, 0.1 … 1, VOC 2010 and
later over all recall. Of equal scores the detections of earlier pictures come first, as in pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from robust_compress.tasks.coco import GROUPS, VOC07, VOC10

N_COLUMNS = VOC10 + 1
GROUP_OF = np.repeat(np.arange(len(GROUPS)), [group.stop - group.start for group in GROUPS])  # of each column
RECALLS, VOC_RECALLS = np.linspace(0.0, 1.0, 101), np.linspace(0.0, 1.0, 11)
_TINY = np.spacing(1.0)


class Scores(NamedTuple):
  """Of the c classes that have an object in some picture; nan where the weights leave none."""

  ap: np.ndarray  # float64[42 c]
  recall: np.ndarray  # float64[42 c], of all detections


class Curves:
  """The detections of all pictures, sorted once for every set of weights.

  Nearly all detections count at every threshold of a size group or at none. So the columns of a group share running
  sums over what counts in it, and the few detections that one column skips, its gaps, are summed apart.
  """

  def __init__(self, records: Mapping[str, np.ndarray]):
    """`records`: those of `coco.record`, stacked."""
    self.n_pictures = len(records["scores"])
    labels, self._truth_pictures = _joined(records["truth_labels"])
    groups, _ = _joined(records["truth_groups"])
    self.classes, self._truth_classes = np.unique(labels, return_inverse=True)
    self._truth_groups = [groups >> g & 1 for g in range(len(GROUPS))]
    self._set_curves(*self._sorted(records))

  def _sorted(self, records: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """(picture, class by its place in `classes`, hits, skipped) of each detection, by class and falling score."""
    (labels, pictures), (scores, _) = _joined(records["labels"]), _joined(records["scores"])
    known = np.flatnonzero(np.isin(labels, self.classes))  # a class without an object is in no mean
    classes = np.searchsorted(self.classes, labels[known])
    order = np.lexsort((-scores[known], classes))
    hits, skipped = (_joined(records[name])[0][known[order]] for name in ("hits", "skipped"))
    return pictures[known[order]], classes[order], hits, skipped

  def _set_curves(self, pictures: np.ndarray, classes: np.ndarray, hits: np.ndarray, skipped: np.ndarray) -> None:
    begins = np.searchsorted(classes, np.arange(len(self.classes)))
    self._counted, self._gaps, self._hits = (_Chosen(pictures) for _ in range(3))
    curves, ends, starts = [], [], []
    for group in GROUPS:
      mask = np.uint64((1 << group.stop) - (1 << group.start))
      in_group = (skipped & mask) != mask
      counted_at = self._counted.add(in_group)
      for column in range(group.start, group.stop):
        bit = np.uint64(1 << column)
        is_hit = (hits & bit) > 0
        hits_at, gaps_at = self._hits.add(is_hit), self._gaps.add(in_group & ((skipped & bit) > 0))
        hit = np.flatnonzero(is_hit)
        curves.append(column * len(self.classes) + classes[hit])
        ends.append((counted_at[hit + 1], gaps_at[hit + 1]))
        starts.append((counted_at[begins], gaps_at[begins], hits_at[begins]))
    self._curve = np.concatenate(curves)  # of every hit, rising
    self._ends = [np.concatenate(part) for part in zip(*ends)]  # of every hit, in sums over what counts and over gaps
    self._starts = [np.concatenate(part) for part in zip(*starts)]  # of every curve, in these and in hits
    self._first = np.flatnonzero(np.diff(self._curve, prepend=-1))  # first hits of curves
    self._lift = 2.0 * (N_COLUMNS * len(self.classes) - self._curve)
    self._from_07, self._from_10 = np.searchsorted(self._curve, np.array([VOC07, VOC10]) * len(self.classes))

  def scores(self, weights: np.ndarray | None = None) -> Scores:
    """Of the pictures with weights float[n]; None: of each once."""
    weights = np.ones(self.n_pictures) if weights is None else np.asarray(weights, np.float64)
    counted, gaps, hits = (chosen.sums(weights) for chosen in (self._counted, self._gaps, self._hits))
    (counted_end, gaps_end), (counted_start, gaps_start, hits_start) = self._ends, self._starts
    n = counted[counted_end] - gaps[gaps_end] - (counted[counted_start] - gaps[gaps_start])[self._curve]
    n_hits = hits[1:] - hits[hits_start][self._curve]
    n_truth = self._n_truth(weights)
    recall = n_hits / np.maximum(n_truth, _TINY)[self._curve]
    area = self._area(self._passed(recall), n_hits / np.maximum(n, _TINY))
    n_found = np.diff(hits[hits_start], append=hits[-1])
    shares = area, n_found / np.maximum(n_truth, _TINY)
    return Scores(*(np.where(n_truth > 0, share, np.nan).reshape(N_COLUMNS, -1) for share in shares))

  def _n_truth(self, weights: np.ndarray) -> np.ndarray:
    """float64[42 · c]: the objects of every curve."""
    weights = weights[self._truth_pictures]
    counts = [np.bincount(self._truth_classes, weights * group, len(self.classes)) for group in self._truth_groups]
    return np.array(counts)[GROUP_OF].reshape(-1)

  def _passed(self, recall: np.ndarray) -> np.ndarray:
    """How much of the recalls that are averaged over lies at or below the recall of each hit: 0 to 1."""
    coco, voc07, voc10 = np.split(recall, (self._from_07, self._from_10))
    return np.concatenate([
      np.searchsorted(RECALLS, coco, "right") / len(RECALLS),
      np.searchsorted(VOC_RECALLS, voc07, "right") / len(VOC_RECALLS),
      voc10,
    ])  # fmt: skip

  def _area(self, passed: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Under each curve: every step of `passed` by the highest precision from there on."""
    lifted = precision + self._lift  # each curve above the next, so that one pass from the end serves all
    best = np.maximum.accumulate(lifted[::-1])[::-1] - self._lift
    steps = np.diff(passed, prepend=0.0)
    steps[self._first] = passed[self._first]
    return np.bincount(self._curve, steps * best, N_COLUMNS * len(self.classes))


class _Chosen:
  """Detections chosen from the sorted ones, again and again, for sums of weights from one place to another."""

  def __init__(self, pictures: np.ndarray):
    self._all, self._parts, self._n = pictures, [], 0

  def add(self, chosen: np.ndarray) -> np.ndarray:
    """Chooses by bool[n]; int64[n + 1]: where the sum over those before each place stands in `sums`."""
    places = self._n + np.concatenate([[0], np.cumsum(chosen)])
    self._parts.append(self._all[chosen])
    self._n += len(self._parts[-1])
    return places

  def sums(self, weights: np.ndarray) -> np.ndarray:
    """float64[m + 1]: of the first 0, 1 … m of all that were chosen."""
    if len(self._parts) > 1:
      self._parts = [np.concatenate(self._parts)]
    return np.concatenate([[0.0], np.cumsum(weights[self._parts[0]])])


def _joined(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What pictures hold, one after another, and the picture of each; `values` [n …] may be ragged."""
  lengths = [len(value) for value in values]
  joined = np.concatenate(list(values)) if len(values) else np.zeros(0, np.uint64)
  return joined, np.repeat(np.arange(len(values)), lengths)
