"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587) on dilated ResNets, as MMSegmentation has it ("d8").

x[b h w 3] ─ResNetV1c, stages 3 and 4 dilated─▶ [b h/8 w/8 c] ─┬─mean─1×1──────────────┐
                                                               ├─1×1───────────────────┤
                                                               ├─3×3 dilated 12, 24, 36┴─3×3─scores─▶ logits[b h w k]
                                    stage 3 ─FCN head─▶ auxiliary, in training
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.models import segmentation_heads as heads
from robust_compress.models.resnet import Trunk, trunk_rules
from robust_compress.models.segmentation_heads import ConvUnit, FcnHead, Scores


class AsppHead(nn.Module):
  """What several dilations and the whole map say of each position, x[b h w c] to dtype[b h w k]."""

  width: int
  dilations: tuple[int, ...]
  n_classes: int
  dropout: float
  dtype: Any = jnp.float32
  batch_norm: str = "local"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    unit = partial(ConvUnit, self.width, dtype=self.dtype, batch_norm=self.batch_norm)
    mean = unit(name="image_pool_1")(x.mean((1, 2), keepdims=True), train)
    branches = [jnp.broadcast_to(mean, (*x.shape[:3], self.width))]
    for i, dilation in enumerate(self.dilations):
      branches.append(unit(1 if dilation == 1 else 3, dilation, name=f"aspp_modules_{i}")(x, train))
    x = unit(3, name="bottleneck")(jnp.concatenate(branches, -1), train)
    return Scores(self.n_classes, self.dropout, self.dtype, name="scores")(x, train)


class DeepLab(nn.Module):
  """A segmenter network (`models/dense.py`): pictures float[b h w 3] to {'logits': float32[b h w n_classes]}.

  `dropout` is on the channels that the scores are made of; 0.1 in the published recipes. Trained, 'auxiliary' is there
  too.
  """

  depths: tuple[int, ...]
  bottleneck: bool
  width: int  # of the head
  auxiliary_width: int
  n_classes: int = 19
  widths: tuple[int, ...] = (64, 128, 256, 512)
  head_dilations: tuple[int, ...] = (1, 12, 24, 36)
  align_corners: bool = True
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
    options: dict[str, Any] = {"dtype": self.dtype, "batch_norm": self.batch_norm}
    trunk = Trunk(
      self.depths, self.bottleneck, self.widths, (1, 2, 1, 1), (1, 1, 2, 4), True, name="backbone", **options
    )
    features = trunk(x, train)
    last = {"n_classes": self.n_classes, "dropout": self.dropout, **options}
    found = {"logits": AsppHead(self.width, self.head_dilations, name="decode_head", **last)(features[-1], train)}
    if train or self.is_initializing():
      found["auxiliary"] = FcnHead(self.auxiliary_width, name="auxiliary_head", **last)(features[-2], train)
    return heads.outputs(x.shape[1:3], self.align_corners, **found)


deeplab_r18 = partial(DeepLab, (2, 2, 2, 2), False, 128, 64)
deeplab_r50 = partial(DeepLab, (3, 4, 6, 3), True, 512, 256)
deeplab_r101 = partial(DeepLab, (3, 4, 23, 3), True, 512, 256)

RULES = (
  *trunk_rules("backbone.", "backbone/"),
  *heads.unit_rules("decode_head.image_pool.1", "decode_head/image_pool_1"),
  *heads.unit_rules("decode_head.aspp_modules.{i}", "decode_head/aspp_modules_{i}"),
  *heads.unit_rules("decode_head.bottleneck", "decode_head/bottleneck"),
  *heads.head_rules(),
)
READING = (*RULES, *trunk_rules("", "backbone/"))  # training may start from a classifier's file
