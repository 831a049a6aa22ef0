"""What the goldens of DDOD are made of: a reduced network, pictures of two sizes, objects, what a head could say."""

from collections.abc import Mapping

import numpy as np
from golden import seeded

N_CLASSES, CHANNELS, WIDTHS, DEPTHS = 7, 64, (8, 16, 32, 64), (1, 1, 1, 1)
CANVAS = (96, 128)
SIZES = np.array([[90, 120], [75, 100]], np.int32)  # alone, MMDetection pads both to the canvas
WIDE = (256, 320)  # a canvas on which pictures of other sizes leave anchors out
WIDE_SIZES = np.array([[250, 310], [190, 130]], np.int32)
LEVELS = tuple((-(-WIDE[0] // stride), -(-WIDE[1] // stride)) for stride in (8, 16, 32, 64, 128))

OBJECTS = (  # of each picture: boxes and labels; no two anchors are as near to a centre, for PyTorch breaks no ties
  (np.array([[10.3, 12, 50, 70.9], [60, 20.2, 118.1, 88], [30, 31, 61.1, 66], [100, 5, 113.1, 20]], "f"), [1, 5, 2, 3]),
  (np.array([[0, 0, 99.3, 74], [41.6, 20, 71, 53.4]], "f"), [4, 1]),
)
WIDE_OBJECTS = (
  (np.array([[10, 12, 50, 71], [15, 9, 61, 80], [160, 100, 309, 249], [203, 31, 216, 47]], np.float32), [1, 1, 6, 0]),
  (np.array([[3, 5, 128, 189], [40, 60, 92, 131]], np.float32), [2, 5]),
)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """The state_dict of the reduced network; scales of levels are about one."""
  found = seeded.state_dict(shapes)
  return {key: value + np.float32(1) if key.endswith(".scale") else value for key, value in found.items()}


def image(canvas: tuple[int, int] = CANVAS) -> np.ndarray:
  """float32[2 h w 3], normalised, zero in the padding; the same pictures on any canvas."""
  found = np.zeros((len(SIZES), *canvas, 3), np.float32)
  for row, picture, (height, width) in zip(found, seeded.picture(CANVAS, len(SIZES)), SIZES, strict=True):
    row[:height, :width] = picture[:height, :width]
  return found


def said() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """A head's answers on the wide canvas, level by level: logits[2 h w k], deltas[2 h w 4], IoU logits[2 h w 1]."""
  kinds = (("logits", N_CLASSES, 1.5), ("deltas", 4, 0.7), ("iou", 1, 1.0))
  return [
    tuple(np.float32(size) * seeded.normal(f"{name} {i}", (2, *level, n)) for name, n, size in kinds)
    for i, level in enumerate(LEVELS)
  ]


def deformed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """x[2 7 5 3], offsets[2 7 5 18] of which some lead outside, kernel[3 3 3 4]."""
  return (
    seeded.normal("x", (2, 7, 5, 3)),
    np.float32(2.5) * seeded.normal("offsets", (2, 7, 5, 18)),
    seeded.normal("kernel", (3, 3, 3, 4)),
  )
