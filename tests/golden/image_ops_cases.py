"""Pictures and steps for which image_ops.npz holds torchvision's output. numpy is the only import."""

import numpy as np

# (h, w) of the picture, resize, interpolation, crop; None leaves a step out
CASES = [
  ((50, 75), 32, "bicubic", 28),
  ((75, 50), 32, "bilinear", 28),
  ((41, 67), 23, "lanczos", 20),
  ((67, 41), 23, "nearest", (20, 17)),
  ((33, 47), 40, "bicubic", 36),
  ((30, 30), 30, "bicubic", 24),
  ((50, 75), (24, 40), "bicubic", None),
  ((50, 75), (24, 40), "bilinear", (21, 33)),
  ((19, 40), None, "bicubic", 26),
  ((40, 19), None, "bicubic", (45, 26)),
  ((25, 36), None, "bicubic", 16),
  ((26, 37), None, "bicubic", 15),
]
SHAPES = [(50, 75), (75, 50), (224, 224), (10, 200), (200, 10), (1, 1), (3, 2)]  # in which crop boxes are drawn
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def picture(index: int) -> np.ndarray:
  """uint8[h w 3] noise, which shows every misplaced pixel."""
  return np.random.Generator(np.random.PCG64(index)).integers(0, 256, (*CASES[index][0], 3), np.uint8)
