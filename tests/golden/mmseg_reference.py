"""MMSegmentation 1.2.2's segmenters, built without weights; it needs mmengine and mmcv or mmcv-lite.

mmcv-lite 2.2 has no compiled operators and calls itself newer than MMSegmentation allows; no network here needs the
operators, so their module is put in its place empty.
"""

import importlib.machinery
import sys
import types
from typing import Any

import reference  # declares torchvision's operators
import torch
from segmenter_cases import DEPTHS, N_CLASSES, WIDTHS


class _Absent(types.ModuleType):
  def __getattr__(self, name: str) -> None:
    if name.startswith("__"):
      raise AttributeError(name)


_absent = _Absent("mmcv._ext")
_absent.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
sys.modules.setdefault("mmcv._ext", _absent)

import mmcv  # noqa: E402

mmcv.__version__ = "2.1.0"

from mmseg.models.backbones.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402

ResNet.arch_settings |= {6: (BasicBlock, DEPTHS), 7: (Bottleneck, DEPTHS)}  # depths of the reduced networks
_BN = {"type": "BN", "requires_grad": True}


def deeplab(bottleneck: bool, align_corners: bool) -> torch.nn.Module:
  """Reduced."""
  features = [w * (4 if bottleneck else 1) for w in WIDTHS]
  return segmenter(
    _resnet(7 if bottleneck else 6, (1, 2, 1, 1), (1, 1, 2, 4)),
    {"type": "ASPPHead", "in_channels": features[-1], "in_index": 3, "channels": 12, "dilations": (1, 2, 3, 4)},
    (features[-2], 10),
    align_corners,
  )


def upernet_resnet(align_corners: bool) -> torch.nn.Module:
  features = [w * 4 for w in WIDTHS]
  return segmenter(_resnet(7, (1, 2, 2, 2), (1, 1, 1, 1)), _uper(features, 12), (features[-2], 10), align_corners)


def upernet_swin() -> torch.nn.Module:
  backbone = {"embed_dims": 12, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 4}
  return segmenter(_swin(**backbone), _uper([12, 24, 48, 96], 12), (48, 10), False)


def full_size(name: str) -> torch.nn.Module:
  """The network of a row of the table."""
  kind, _, rest = name.partition("_")
  if name.startswith("upernet_swin_tiny"):
    swin = _swin(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
    return segmenter(swin, _uper([96, 192, 384, 768], 512), (384, 256), False, 150)
  depth = int(rest.partition(".")[0].removesuffix("-d8").removeprefix("r"))
  features = [64, 128, 256, 512] if depth == 18 else [256, 512, 1024, 2048]
  width, auxiliary = (128, 64) if depth == 18 else (512, 256)
  if kind == "upernet":
    backbone, head = _resnet(depth, (1, 2, 2, 2), (1, 1, 1, 1), 64), _uper(features, width)
  else:
    backbone = _resnet(depth, (1, 2, 1, 1), (1, 1, 2, 4), 64)
    head = {"type": "ASPPHead", "in_channels": features[-1], "in_index": 3, "channels": width}
    head |= {"dilations": (1, 12, 24, 36)}
  return segmenter(backbone, head, (features[-2], auxiliary), True, 19)


def segmenter(
  backbone: dict, head: dict, auxiliary: tuple[int, int], align_corners: bool, n_classes: int = N_CLASSES
) -> torch.nn.Module:
  """In evaluation mode, without dropout: that is PyTorch's own, and random."""
  common = {"num_classes": n_classes, "norm_cfg": _BN, "align_corners": align_corners, "dropout_ratio": 0.0}
  width, channels = auxiliary
  fcn = {"type": "FCNHead", "in_channels": width, "in_index": 2, "channels": channels, "num_convs": 1}
  config = {
    "type": "EncoderDecoder",
    "backbone": backbone,
    "decode_head": head | common,
    "auxiliary_head": fcn | {"concat_input": False} | common,
    "train_cfg": {},
    "test_cfg": {"mode": "whole"},
  }
  return MODELS.build(config).eval()


def logits(model: torch.nn.Module, x: torch.Tensor, window: tuple[int, int] | None = None) -> torch.Tensor:
  """[n 3 h w] to [n k h w], as MMSegmentation predicts them: whole, or through windows of (side, stride)."""
  metas = [{"img_shape": tuple(x.shape[2:]), "ori_shape": tuple(x.shape[2:])} for _ in x]
  if window is None:
    return model.whole_inference(x, metas)
  side, stride = window
  model.test_cfg = types.SimpleNamespace(crop_size=(side, side), stride=(stride, stride), get=lambda *_: None)
  return model.slide_inference(x, metas)


def trained(model: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
  """Logits and those of the auxiliary head, both at the size of the picture as in its losses."""
  features = model.extract_feat(x)
  found = [(head, head(features)) for head in (model.decode_head, model.auxiliary_head)]
  resize = torch.nn.functional.interpolate
  sized = [resize(y, x.shape[2:], mode="bilinear", align_corners=head.align_corners) for head, y in found]
  return sized[0], sized[1]


def _resnet(depth: int, strides: tuple[int, ...], dilations: tuple[int, ...], width: int = WIDTHS[0]) -> dict[str, Any]:
  return {
    "type": "ResNetV1c",
    "depth": depth,
    "stem_channels": width,
    "base_channels": width,
    "strides": strides,
    "dilations": dilations,
    "contract_dilation": True,
    "norm_cfg": _BN,
  }


def _swin(**options: Any) -> dict[str, Any]:
  return {"type": "SwinTransformer", "drop_path_rate": 0.0, **options}


def _uper(features: list[int], width: int) -> dict[str, Any]:
  return {"type": "UPerHead", "in_channels": features, "in_index": [0, 1, 2, 3], "channels": width}


shapes, load = reference.shapes, reference.load
