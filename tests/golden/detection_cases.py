"""Pictures with objects and detections, by numpy alone, that make_coco_ap.py and the tests both build.

Corners lie on a grid of quarter pixels and scores on one of 1/64, so that areas and ties are the same numbers in
float32 and float64.
"""

from typing import NamedTuple

import numpy as np

SIDE = 480


class Case(NamedTuple):
  n_pictures: int
  n_classes: int
  n_objects: int  # of a picture, at most
  n_detections: int
  kinds: tuple[float, ...]  # shares of objects, crowds, difficult ones
  size: float = 1.0  # of objects
  ties: bool = True  # of scores, and of overlaps by an object that is there twice


CASES = {
  "sizes": Case(300, 6, 14, 30, (0.9, 0.1)),  # class 5 is detected and never there, class 4 there and never detected
  "many": Case(12, 4, 20, 800, (0.95, 0.05), 0.6),  # more than 100 of a class in a picture
  "difficult": Case(200, 5, 8, 16, (0.75, 0.0, 0.25), ties=False),
}


def pictures(name: str) -> list[dict[str, np.ndarray]]:
  """A dict a picture: boxes, box_labels, box_areas, box_kinds of the truth; found, scores, labels of detections."""
  case = CASES[name]
  rng = np.random.default_rng(len(name))
  found = [_picture(case, rng) for _ in range(case.n_pictures)]
  if not case.ties:
    places = np.cumsum([0, *(len(picture["scores"]) for picture in found)])
    scores = ((1 + rng.permutation(places[-1])) / (places[-1] + 1)).astype(np.float32)
    found = [{**picture, "scores": scores[a:b]} for picture, a, b in zip(found, places[:-1], places[1:])]
  return found


def _picture(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
  n = rng.integers(0, case.n_objects + 1)
  boxes, labels = _boxes(rng, n, case.size), rng.integers(0, case.n_classes - 1, n)
  if n > 3 and case.ties:
    boxes[1], labels[1] = boxes[0], labels[0]  # the same object twice: equal overlaps
  kinds = rng.choice(len(case.kinds), n, p=case.kinds)
  areas = _areas(boxes) * rng.choice([0.5, 0.75, 1.0], n)  # a mask covers less than its box
  found, found_labels = _detections(rng, case, boxes, labels)
  scores = rng.integers(1, 65, len(found)) / 64
  return {
    "boxes": boxes.astype(np.float32),
    "box_labels": labels.astype(np.int32),
    "box_areas": areas.astype(np.float32),
    "box_kinds": kinds.astype(np.uint8),
    "found": found.astype(np.float32),
    "scores": scores.astype(np.float32),
    "labels": found_labels.astype(np.int32),
  }


def _detections(
  rng: np.random.Generator, case: Case, boxes: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Some near an object, the others anywhere; a tenth of the near ones under another class."""
  n = rng.integers(0, case.n_detections + 1)
  found, found_labels = _boxes(rng, n, case.size), rng.integers(0, case.n_classes, n)
  if len(boxes):
    near = np.flatnonzero(rng.random(n) < 0.7)
    which = rng.integers(len(boxes), size=len(near))
    sides = np.tile(boxes[which, 2:] - boxes[which, :2], 2)
    moved = boxes[which] + sides * rng.normal(0, rng.choice([0.01, 0.05, 0.15], (len(near), 1)), (len(near), 4))
    found[near] = _ordered(moved)
    found_labels[near] = np.where(rng.random(len(near)) < 0.9, labels[which], found_labels[near])
  keep = found_labels != case.n_classes - 2
  return found[keep], found_labels[keep]


def _boxes(rng: np.random.Generator, n: int, size: float) -> np.ndarray:
  sides = size * np.exp(rng.uniform(np.log(8), np.log(240), (n, 2)))
  start = rng.uniform(0, 1, (n, 2)) * (SIDE - sides)
  return _ordered(np.concatenate([start, start + sides], 1))


def _ordered(boxes: np.ndarray) -> np.ndarray:
  """On the grid, inside the picture, and at least a pixel wide and high."""
  grid = np.clip(np.round(boxes * 4) / 4, 0, SIDE)
  grid[:, :2] = np.minimum(grid[:, :2], SIDE - 1)
  grid[:, 2:] = np.maximum(grid[:, 2:], grid[:, :2] + 1)
  return grid


def _areas(boxes: np.ndarray) -> np.ndarray:
  return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
