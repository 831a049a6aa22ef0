"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) with a feature pyramid, of torchvision.

    image[b h w 3] ─trunk─▶ pyramid ─┬─ rpn ─▶ proposals [b n 4] ─┐
                                     └─ maps ──── RoIAlign 7×7 ◀──┘ ─ box head ─▶ boxes, scores, labels

Three variants: the first (`resnet50_fpn`), whose trunk has batch norm with ε 0, because its weights are from when
torchvision's frozen norm had none; the second, with norms in pyramid and head (`resnet50_fpn_v2`); and
MobileNetV3-Large, whose pyramid has two maps of one stride. torchvision trains the first and the last with frozen norms
(batch_norm='frozen' here); what it leaves as it is stands in the rows of `detectors.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models import mobilenet_v3, roi_heads, rpn
from robust_compress.models.fpn import FeaturePyramid, fpn_rules
from robust_compress.models.iou_matching import truth
from robust_compress.models.layers import BatchNorm
from robust_compress.models.resnet import Trunk, trunk_rules
from robust_compress.models.roi_align import roi_align


class FasterRcnn(nn.Module):
  """A detector as `dense.Detector` calls it. Class 0 is the background; it needs no rng but in training, 'dropout'.

  Attributes:
    trunk: called with (batch_norm, dtype, name).
    strides: of the pyramid's maps.
    n_pooled: how many of them, the first ones, regions are read from.
    width: of the pyramid.
    normed: batch norm in the pyramid.
    rpn_depth: convolutions of the first stage.
    convs, dense: widths of the second stage.
    first, second: how the stages choose.
  """

  trunk: Callable[..., nn.Module]
  strides: tuple[int, ...] = (4, 8, 16, 32, 64)
  n_pooled: int = 4
  width: int = 256
  normed: bool = False
  rpn_depth: int = 1
  convs: tuple[int, ...] = ()
  dense: tuple[int, ...] = (1024, 1024)
  first: rpn.Rpn = rpn.Rpn()
  second: roi_heads.Roi = roi_heads.Roi()
  n_classes: int = 91
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0  # not used

  def setup(self) -> None:
    norm = partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)
    n_anchors = len(self.first.anchor_sizes[0]) * len(rpn.RATIOS)
    self.body = self.trunk(batch_norm=self.batch_norm, dtype=self.dtype)
    self.fpn = FeaturePyramid(self.width, norm if self.normed else None, self.dtype)
    self.rpn = rpn.RpnHead(n_anchors, self.rpn_depth, self.dtype)
    self.box_head = roi_heads.BoxHead(self.n_classes, self.convs, self.dense, norm, self.dtype)

  def __call__(
    self, image: jax.Array, sizes: jax.Array, targets: dict[str, jax.Array] | None, train: bool
  ) -> dict[str, Any]:
    maps = self.fpn(self.body(image.astype(self.dtype), train), train)
    raw = self.raw(maps, sizes)
    proposals = jax.lax.stop_gradient(rpn.propose(raw, sizes, self.first, train))
    if train:
      return {"losses": self._losses(maps, raw, proposals, sizes, targets, train)}
    return roi_heads.detect(*self._heads(maps, proposals.boxes, sizes, train), proposals, sizes, self.second)

  def raw(self, maps: list[jax.Array], sizes: jax.Array) -> rpn.Raw:
    """What the first stage says of every anchor."""
    own = rpn.extents(sizes, self.strides)
    return rpn.Raw(*self.rpn(maps), *rpn.anchors(maps, sizes, own, self.first.anchor_sizes))

  def _heads(
    self, maps: list[jax.Array], boxes: jax.Array, sizes: jax.Array, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Logits float32[b n k] and deltas float32[b n k 4] of boxes[b n 4]."""
    strides = self.strides[: self.n_pooled]
    found = roi_align(maps[: self.n_pooled], boxes, strides, rpn.extents(sizes, strides))
    logits, deltas = self.box_head(found.reshape(-1, *found.shape[2:]), train)
    return logits.reshape(*boxes.shape[:2], -1), deltas.reshape(*boxes.shape[:2], -1, 4)

  def _losses(self, maps: list, raw: rpn.Raw, proposals: rpn.Proposals, sizes: jax.Array, targets: Any, train: bool):
    objects, mask = truth(targets), targets["mask"]
    chosen = roi_heads.regions(proposals, objects, mask, self.second, self.make_rng("dropout"))
    logits, deltas = self._heads(maps, chosen.boxes, sizes, train)
    first = rpn.losses(raw, objects, mask, self.first, self.make_rng("dropout"))
    return first | roi_heads.losses(logits, deltas, chosen)


_RESNET50 = {"depths": (3, 4, 6, 3), "bottleneck": True}
_MOBILE = {"trunk": partial(mobilenet_v3.Trunk), "strides": (32, 32, 64), "n_pooled": 1}
_MOBILE_ANCHORS = ((32, 64, 128, 256, 512),) * 3

resnet50_fpn = partial(FasterRcnn, partial(Trunk, **_RESNET50, epsilon=0.0))
resnet50_fpn_v2 = partial(
  FasterRcnn, partial(Trunk, **_RESNET50), normed=True, rpn_depth=2, convs=(256,) * 4, dense=(1024,)
)
mobilenet_v3_large_fpn = partial(FasterRcnn, **_MOBILE, first=rpn.Rpn(_MOBILE_ANCHORS, least=0.05))
mobilenet_v3_large_320_fpn = partial(
  FasterRcnn, **_MOBILE, first=rpn.Rpn(_MOBILE_ANCHORS, (2000, 150), (2000, 150), least=0.05)
)


def _table(trunk: tuple[convert.Rule, ...], n_convs: int = 0) -> tuple[convert.Rule, ...]:
  return (*trunk, *fpn_rules(), *rpn.rpn_rules(), *roi_heads.box_head_rules(n_convs))


def _without_counters(rules: tuple[convert.Rule, ...]) -> tuple[convert.Rule, ...]:
  """A frozen norm of torchvision's counts no batches."""
  return tuple(rule for rule in rules if rule.transform != "counter")


def _reading(rules: tuple[convert.Rule, ...]) -> tuple[convert.Rule, ...]:
  """Published files are from before torchvision wrapped convolutions; others may be of a norm that counts."""
  older = [
    *convert.conv("backbone.fpn.inner_blocks.{i}", "fpn/inner_{i}", bias=True),
    *convert.conv("backbone.fpn.layer_blocks.{i}", "fpn/layer_{i}", bias=True),
    *convert.conv("rpn.head.conv", "rpn/conv_0", bias=True),
  ]
  return (*rules, *older)


V2_RULES = _table(trunk_rules("backbone.body.", "body/"), 4)

_RESNET_COUNTED = _table(trunk_rules("backbone.body.", "body/"))
_MOBILE_COUNTED = _table(mobilenet_v3.torchvision_features("backbone.body.", "body/"))
RULES, READING = _without_counters(_RESNET_COUNTED), _reading(_RESNET_COUNTED)
MOBILENET_RULES, MOBILENET_READING = _without_counters(_MOBILE_COUNTED), _reading(_MOBILE_COUNTED)
