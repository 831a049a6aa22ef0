"""Segmentations and logits, by numpy alone, that make_segmentation.py and the tests both build."""

import numpy as np

N_CLASSES = 7  # 5 is nowhere, 6 only predicted, 4 only in the truth
SIZES = ((30, 40), (17, 64), (48, 5), (1, 1))  # of pictures; some pixels of each do not count
INPUT, CANVAS = (24, 32), (60, 70)
VIEWS = (((24, 32), (60, 70)), ((20, 31), (35, 64)), ((7, 32), (5, 20)), ((24, 12), (24, 12)))  # from extent to size


def maps() -> list[tuple[np.ndarray, np.ndarray]]:
  """(prediction, truth), uint8[h w] each."""
  rng = np.random.default_rng(0)
  pairs = []
  for size in SIZES:
    truth = rng.integers(0, 5, size)
    found = np.where(rng.random(size) < 0.6, np.minimum(truth, 3), rng.choice([0, 1, 2, 3, 6], size))
    truth = np.where(rng.random(size) < 0.1, 255, truth)
    pairs.append((found.astype(np.uint8), truth.astype(np.uint8)))
  return pairs


def logits() -> np.ndarray:
  """float32[n h w k], one a view."""
  return np.random.default_rng(1).standard_normal((len(VIEWS), *INPUT, N_CLASSES), np.float32)
