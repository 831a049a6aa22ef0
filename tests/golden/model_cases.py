"""What the goldens of models are made of: reduced networks in both frameworks, and each table row's reference.

A reference is 'timm:name' or 'torchvision:name' (of torchvision.models), built without weights.
"""

from typing import Any, NamedTuple


class Case(NamedTuple):
  """A network small enough for the test suite, as we build it and as the reference does."""

  ours: str  # 'file:attribute' in robust_compress/models; the file's RULES translate
  options: dict[str, Any]
  reference: str
  reference_options: dict[str, Any]
  size: tuple[int, int]
  rules: str = "RULES"


N_CLASSES = 10
_WIDTHS = (16, 24, 32, 48)
_SWIN = {"depths": (2, 2), "num_heads": (2, 4), "embed_dim": 24, "window_size": 4}

CASES = {
  "resnet_basic": Case(
    "resnet:ResNet",
    {"depths": (2, 1, 1, 1), "widths": _WIDTHS, "bottleneck": False},
    "timm:resnet18",
    {"layers": (2, 1, 1, 1), "channels": _WIDTHS},
    (72, 90),
  ),
  "resnet_bottleneck": Case(
    "resnet:ResNet",
    {"depths": (1, 2, 1, 1), "widths": _WIDTHS, "bottleneck": True},
    "timm:resnet50",
    {"layers": (1, 2, 1, 1), "channels": _WIDTHS},
    (72, 90),
  ),
  "vit": Case(
    "vit:VisionTransformer",
    {"width": 48, "depth": 2, "heads": 3},
    "timm:vit_tiny_patch16_224",
    {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3},
    (64, 64),
  ),
  "swin": Case(  # 16×16 and 8×8 positions: windows divide them
    "swin:SwinTransformer",
    {"width": 24, "depths": (2, 2), "heads": (2, 4), "window": 4},
    "timm:swin_tiny_patch4_window7_224",
    {**_SWIN, "img_size": 64},
    (64, 64),
  ),
  "swin_padded": Case(  # 18×15 and 9×8: padded, in windows and in merging
    "swin:SwinTransformer",
    {"width": 24, "depths": (2, 2), "heads": (2, 4), "window": 4},
    "timm:swin_tiny_patch4_window7_224",
    {**_SWIN, "img_size": (72, 60)},
    (72, 60),
  ),
  "swin_one_window": Case(  # 8×8 and 4×4: the second stage is one window, which is not shifted
    "swin:SwinTransformer",
    {"width": 24, "depths": (2, 2), "heads": (2, 4), "window": 4},
    "timm:swin_tiny_patch4_window7_224",
    {**_SWIN, "img_size": 32},
    (32, 32),
  ),
  "mobilenet_v2": Case(
    "mobilenet_v2:mobilenet_v2",
    {"multiplier": 0.25, "dropout": 0.0},
    "torchvision:mobilenet_v2",
    {"width_mult": 0.25},
    (72, 90),
    "TORCHVISION_RULES",
  ),
  "mobilenet_v3_large": Case(
    "mobilenet_v3:mobilenet_v3_large_tv",
    {"multiplier": 0.25, "dropout": 0.0},
    "torchvision:mobilenet_v3_large",
    {"width_mult": 0.25},
    (72, 90),
    "TORCHVISION_RULES",
  ),
  "squeezenet": Case(  # sides 33×42, 16×21, 8×10 meet the poolings: the even ones hang over
    "squeezenet:squeezenet1_0",
    {"dropout": 0.0},
    "torchvision:squeezenet1_0",
    {},
    (72, 90),
  ),
}

# Rows of the table whose weights have no PyTorch layout, or whose network is our own and stands nowhere else.
WITHOUT_REFERENCE = ("mobilenet_v2_tf.in1k", "nano.random", "nano.scenes")


def reference_of(name: str) -> str:
  """The reference network of a row of the table: timm's of that name, torchvision's for tags of its weights."""
  architecture, _, tag = name.partition(".")
  return f"{'torchvision' if tag.startswith('tv') else 'timm'}:{architecture}"
