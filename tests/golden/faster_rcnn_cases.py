"""What the goldens of Faster R-CNN are made of: reduced networks of its variants, and pictures on one canvas."""

from typing import Any, NamedTuple

import numpy as np

WIDTH, DENSE, N_CLASSES = 16, 32, 6
CANVAS = (96, 128)
SIZES = np.array([[90, 120], [75, 100]], np.int32)  # both padded to the canvas when alone, as torchvision does
N_BEFORE, N_AFTER, N_DETECTIONS = (60, 40), (50, 30), 20  # (training, evaluation), small enough to cut something off
ALL = 10**6  # so many are sampled: all, so that losses are no matter of chance


class Case(NamedTuple):
  """A variant, as the golden's script builds it (by name) and what our network needs beside the common numbers."""

  options: dict[str, Any]
  least: float  # probability of a proposal
  rules: str
  epsilon: float  # of the trunk's norms


CASES = {
  "v1": Case({"dense": (DENSE, DENSE)}, 0.0, "RULES", 0.0),
  "v2": Case({"normed": True, "rpn_depth": 2, "convs": (WIDTH,) * 4, "dense": (DENSE,)}, 0.0, "V2_RULES", 1e-5),
  "mobile": Case({"strides": (32, 32, 64), "n_pooled": 1, "dense": (DENSE, DENSE)}, 0.05, "MOBILENET_RULES", 1e-5),
}
MOBILE_MULTIPLIER = 0.5
MOBILE_ANCHORS = ((32, 64, 128, 256, 512),) * 3

OBJECTS = (  # of each picture: boxes and labels
  (np.array([[10, 12, 50, 70], [60, 20, 118, 88], [30, 30, 62, 61], [84, 5, 96, 19]], np.float32), [1, 5, 2, 3]),
  (np.array([[0, 0, 99, 74], [40, 20, 71, 52]], np.float32), [4, 1]),
)


def padded(picture: np.ndarray) -> np.ndarray:
  """float32[2 h w 3], normalised, zero beyond `SIZES`."""
  found = picture.copy()
  for row, (height, width) in zip(found, SIZES, strict=True):
    row[height:] = row[:, width:] = 0
  return found


def boxes_of(noise: np.ndarray) -> np.ndarray:
  """float32[n 4] within the canvas, of normal noise[n 4], on a grid of half pixels, so that overlaps tie."""
  centre, half = 0.5 + 0.25 * np.tanh(noise[:, :2]), 0.02 + 0.25 * np.abs(np.tanh(noise[:, 2:]))
  found = np.concatenate([centre - half, centre + half], 1).clip(0, 1) * np.tile(CANVAS[::-1], 2)
  return (np.round(2 * found) / 2).astype(np.float32)
