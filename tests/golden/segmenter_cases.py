"""Reduced segmenters in both frameworks. numpy is the only import."""

from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
  """A network as we build it and as its reference does.

  `reference` is a function of `mmseg_reference.py` ('mmseg:…'), 'transformers:…' or 'torch:segnet'.
  """

  ours: str  # 'file:attribute' in robust_compress/models
  options: dict[str, Any]
  reference: str
  reference_options: dict[str, Any]
  size: tuple[int, int]
  rules: str = "RULES"
  window: tuple[int, int] | None = None  # a golden of sliding, too


N_CLASSES, N_PICTURES, STEP = 5, 4, 5  # goldens have every fifth row and column of the logits
AUXILIARY = 0.4  # weight of the auxiliary loss
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS = (8, 16, 32, 64)
DEPTHS = (1, 1, 2, 2)
_DEEPLAB = {"depths": DEPTHS, "widths": WIDTHS, "width": 12, "auxiliary_width": 10, "head_dilations": (1, 2, 3, 4)}
_SWIN = {"width": 12, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4), "window": 4}
_UPERNET = {"width": 12, "auxiliary_width": 10}
_SEGNET = (4, 6, 8, 10, 12)

CASES = {
  "deeplab_basic": Case(
    "deeplab:DeepLab",
    {**_DEEPLAB, "bottleneck": False},
    "mmseg:deeplab",
    {"bottleneck": False, "align_corners": True},
    (65, 81),
    window=(49, 33),
  ),
  "deeplab_bottleneck": Case(
    "deeplab:DeepLab",
    {**_DEEPLAB, "bottleneck": True, "align_corners": False},
    "mmseg:deeplab",
    {"bottleneck": True, "align_corners": False},
    (60, 75),
  ),
  "upernet_resnet": Case(  # the coarsest map has 3×4 positions: pools of 3 and 6 are uneven
    "upernet:UperNet",
    {**_UPERNET, "backbone": ("resnet_v1c", DEPTHS, {"widths": WIDTHS})},
    "mmseg:upernet_resnet",
    {"align_corners": True},
    (75, 101),
  ),
  "upernet_swin": Case(  # 18×15, 9×8, 5×4 and 3×2 positions: padded in windows and in merging, and less than a window
    "upernet:UperNet",
    {**_UPERNET, "backbone": ("Features", _SWIN), "align_corners": False},
    "mmseg:upernet_swin",
    {},
    (70, 60),
    "SWIN_RULES",
  ),
  "upernet_transformers": Case(
    "upernet:UperNet",
    {**_UPERNET, "backbone": ("Features", _SWIN), "align_corners": False},
    "transformers:upernet_swin",
    {},
    (70, 60),
    "TRANSFORMERS_RULES",
  ),
  "segnet": Case(  # pooled to 23×30, 12×15, 6×8, 3×4 and 2×2
    "segnet:SegNet",
    {"widths": _SEGNET},
    "torch:segnet",
    {"widths": _SEGNET},
    (45, 60),
  ),
}


def normalised(images: np.ndarray) -> np.ndarray:
  return (images.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
