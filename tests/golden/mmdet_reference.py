"""MMDetection 3.3's DDOD, built without weights; it needs mmengine and mmcv or mmcv-lite.

mmcv-lite has no compiled operators. Suppression is written out here by its definition; the deformable convolution
samples with PyTorch's `grid_sample`. All else is MMDetection's own code.
"""

import importlib.machinery
import sys
import types
from typing import Any

import ddod_cases as cases
import reference  # declares torchvision's operators
import torch
from torch.nn import functional as F


class _Operators(types.ModuleType):
  """In place of mmcv's compiled module."""

  def __getattr__(self, name: str) -> Any:
    if name.startswith("__"):
      raise AttributeError(name)
    return None

  @staticmethod
  def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """Greedy suppression: indices of what stays, best first."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
    for i in scores.sort(descending=True, stable=True).indices.tolist():
      low, high = torch.maximum(boxes[i, :2], boxes[kept, :2]), torch.minimum(boxes[i, 2:], boxes[kept, 2:])
      common = (high - low + offset).clamp(min=0).prod(1)
      if not (common / (areas[i] + areas[kept] - common) > iou_threshold).any():
        kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


_operators = _Operators("mmcv._ext")
_operators.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
sys.modules.setdefault("mmcv._ext", _operators)

import mmcv  # noqa: E402

mmcv.__version__ = "2.1.0"  # MMDetection refuses 2.2, for no reason that matters here

import mmcv.ops.deform_conv  # noqa: E402
from mmdet.models.backbones.resnet import Bottleneck, ResNet  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402


def deform_conv2d(x: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, *_: Any) -> torch.Tensor:
  """x[b c h w], offset[b 18 h w], weight[n c 3 3] to [b n h w]: stride 1, padding 1, one group."""
  h, w = x.shape[2:]
  wide = F.pad(x, (0, 1, 0, 1))  # grid_sample knows no positions beside a single pixel
  rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
  total = torch.zeros((), dtype=x.dtype)
  for i in range(9):
    y, x_ = rows + i // 3 - 1 + offset[:, 2 * i], columns + i % 3 - 1 + offset[:, 2 * i + 1]
    grid = torch.stack([2 * x_ / w - 1, 2 * y / h - 1], -1)  # -1 to 1 from the first to the last pixel
    sample = F.grid_sample(wide, grid, padding_mode="zeros", align_corners=True)
    total = total + torch.einsum("bchw,nc->bnhw", sample, weight[:, :, i // 3, i % 3])
  return total


mmcv.ops.deform_conv.deform_conv2d = deform_conv2d
ResNet.arch_settings[7] = (Bottleneck, cases.DEPTHS)  # the reduced network's depth


def detector(reduced: bool = True) -> torch.nn.Module:
  """`ddod_r50_fpn_1x_coco`, or the same with less of everything."""
  widths = [w * 4 for w in (cases.WIDTHS if reduced else (64, 128, 256, 512))]
  channels, n_classes = (cases.CHANNELS, cases.N_CLASSES) if reduced else (256, 80)
  width = widths[0] // 4
  backbone = {"type": "ResNet", "depth": 7 if reduced else 50, "stem_channels": width, "base_channels": width}
  backbone |= {"frozen_stages": -1 if reduced else 1, "norm_cfg": {"type": "BN", "requires_grad": True}}
  backbone |= {"norm_eval": True, "style": "pytorch"}
  neck = {"type": "FPN", "in_channels": widths, "out_channels": channels, "start_level": 1, "num_outs": 5}
  strides = [8, 16, 32, 64, 128]
  anchors = {"type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8, "scales_per_octave": 1}
  coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]}
  head = {
    "type": "DDODHead",
    "num_classes": n_classes,
    "in_channels": channels,
    "feat_channels": channels,
    "stacked_convs": 4,
    "anchor_generator": anchors | {"strides": strides},
    "bbox_coder": coder,
    "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
    "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
    "loss_iou": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
  }
  assigners = {
    name: {"type": "ATSSAssigner", "topk": 9, "alpha": alpha}
    for name, alpha in (("assigner", 0.8), ("reg_assigner", 0.5))
  }
  test = {"nms_pre": 1000, "min_bbox_size": 0, "score_thr": 0.05, "max_per_img": 100}
  config = {
    "type": "DDOD",
    "backbone": backbone,
    "neck": neck | {"add_extra_convs": "on_output"},
    "bbox_head": head,
    "train_cfg": assigners | {"allowed_border": -1, "pos_weight": -1, "debug": False},
    "test_cfg": test | {"nms": {"type": "nms", "iou_threshold": 0.6}},
  }
  return MODELS.build(ConfigDict(config)).eval()


def instances(objects: tuple) -> list[InstanceData]:
  """Boxes and labels of each picture as MMDetection has them."""
  return [InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.tensor(labels)) for boxes, labels in objects]


shapes = reference.shapes
