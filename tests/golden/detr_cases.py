"""What the goldens of DETR are made of: reduced networks in both frameworks, pictures with padding, and objects.

`trunk` is of timm's resnet: its blocks, the depths and widths of its stages and its output stride.
"""

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
  trunk: str
  depths: tuple[int, int, int, int]
  dilated: bool


CASES = {
  "detr": Case("resnet18", (1, 2, 1, 1), False),
  "detr_dc5": Case("resnet50", (1, 1, 1, 2), True),
}
TRAINED = ("detr_dc5",)  # compiling a gradient takes long, and this one has all that the other has
TRUNK_WIDTHS = (64, 16, 24, 32)  # timm's stem has 64 channels whatever its stages have
WIDTH, HEADS, HIDDEN, N_LAYERS, N_QUERIES, N_CLASSES = 32, 4, 48, (2, 3), 12, 5
SIZE, SIZES = (96, 128), np.array([[96, 90], [60, 128]], np.int32)  # of the input, and of the pictures in it
LABELS = ((4, 1, 1), (3, 0))
BOXES = (
  ((10, 20, 60, 70), (0, 0, 90, 96), (71, 40.5, 89, 60)),
  ((30, 5, 127, 59), (64, 30, 70, 37.25)),
)


def padded(image: np.ndarray) -> np.ndarray:
  """image[2 h w 3] with zeros in the padding."""
  image = image.copy()
  for one, (height, width) in zip(image, SIZES):
    one[height:] = 0
    one[:, width:] = 0
  return image


def apart(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Weights in the names of transformers' module, with queries that are far from each other."""
  key = "model.query_position_embeddings.weight"
  return arrays | {key: 9 * arrays[key]}
