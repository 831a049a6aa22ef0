"""UPerNet (Xiao et al. 2018, arXiv:1807.10221) on ResNetV1c and Swin, as MMSegmentation has it.

            stage 4 ─pyramid of pools 1, 2, 3, 6─3×3─┐────────────────────────┐
x[b h w 3]─▶stage 3 ─1×1────────────────────────────(+)─┐──3×3────────────────┤
            stage 2 ─1×1───────────────────────────────(+)─┐──3×3─────────────┤
            stage 1 ─1×1──────────────────────────────────(+)─3×3─────────────┴─3×3─scores─▶ logits[b h w k]
            stage 3 ─FCN head─▶ auxiliary, in training

Sums and the last concatenation are of maps brought to the size of the finer one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models import resnet, sampling, swin, swin_features
from robust_compress.models import segmentation_heads as heads
from robust_compress.models.segmentation_heads import ConvUnit, FcnHead, Scores

POOLS = (1, 2, 3, 6)


class UperHead(nn.Module):
  """Features of all stages, finest first, to scores dtype[b h/4 w/4 k]."""

  width: int
  align_corners: bool
  n_classes: int
  dropout: float
  dtype: Any = jnp.float32
  batch_norm: str = "local"

  @nn.compact
  def __call__(self, features: list[jax.Array], train: bool) -> jax.Array:
    unit = partial(ConvUnit, self.width, dtype=self.dtype, batch_norm=self.batch_norm)
    resize = partial(sampling.resize, align_corners=self.align_corners)
    maps = [unit(name=f"lateral_convs_{i}")(x, train) for i, x in enumerate(features[:-1])]
    maps.append(self._pyramid(features[-1], train, unit, resize))
    for i in reversed(range(len(maps) - 1)):
      maps[i] = maps[i] + resize(maps[i + 1], maps[i].shape[1:3])
    size = maps[0].shape[1:3]
    fine = [unit(3, name=f"fpn_convs_{i}")(x, train) for i, x in enumerate(maps[:-1])]
    x = jnp.concatenate([resize(x, size) for x in (*fine, maps[-1])], -1)
    x = unit(3, name="fpn_bottleneck")(x, train)
    return Scores(self.n_classes, self.dropout, self.dtype, name="scores")(x, train)

  def _pyramid(self, x: jax.Array, train: bool, unit: Callable[..., nn.Module], resize: Callable) -> jax.Array:
    pooled = [unit(name=f"psp_modules_{i}")(sampling.adaptive_pool(x, n), train) for i, n in enumerate(POOLS)]
    x = jnp.concatenate([x, *(resize(y, x.shape[1:3]) for y in pooled)], -1)
    return unit(3, name="bottleneck")(x, train)


class UperNet(nn.Module):
  """A segmenter network (`models/dense.py`): pictures float[b h w 3] to {'logits': float32[b h w n_classes]}.

  `backbone` is called with dtype, batch_norm, dropout and name. `dropout` is what its backbone does with it, and unless
  `head_dropout` says otherwise also that of the channels that scores are made of. Trained, 'auxiliary' is there too.
  """

  backbone: Callable[..., nn.Module]
  n_classes: int = 19
  width: int = 512  # of the head
  auxiliary_width: int = 256
  align_corners: bool = True
  head_dropout: float | None = None
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
    options: dict[str, Any] = {"dtype": self.dtype, "batch_norm": self.batch_norm}
    features = self.backbone(dropout=self.dropout, name="backbone", **options)(x, train)
    dropout = self.dropout if self.head_dropout is None else self.head_dropout
    last = {"n_classes": self.n_classes, "dropout": dropout, **options}
    found = {"logits": UperHead(self.width, self.align_corners, name="decode_head", **last)(features, train)}
    if train or self.is_initializing():
      found["auxiliary"] = FcnHead(self.auxiliary_width, name="auxiliary_head", **last)(features[-2], train)
    return heads.outputs(x.shape[1:3], self.align_corners, **found)


def resnet_v1c(depths: tuple[int, ...], dropout: float, **options: Any) -> resnet.Trunk:
  """Bottleneck ResNetV1c, which drops nothing."""
  return resnet.Trunk(depths, True, deep_stem=True, **options)


upernet_r50 = partial(UperNet, partial(resnet_v1c, (3, 4, 6, 3)))
upernet_r101 = partial(UperNet, partial(resnet_v1c, (3, 4, 23, 3)))
upernet_swin_tiny = partial(UperNet, swin_features.tiny_features, 150, align_corners=False, head_dropout=0.1)


def _decode_rules(norm: str) -> tuple[convert.Rule, ...]:
  unit = partial(heads.unit_rules, norm=norm)
  return (
    *unit("decode_head.psp_modules.{i}.1", "decode_head/psp_modules_{i}"),
    *unit("decode_head.bottleneck", "decode_head/bottleneck"),
    *unit("decode_head.lateral_convs.{i}", "decode_head/lateral_convs_{i}"),
    *unit("decode_head.fpn_convs.{i}", "decode_head/fpn_convs_{i}"),
    *unit("decode_head.fpn_bottleneck", "decode_head/fpn_bottleneck"),
  )


_HEADS = (*_decode_rules("bn"), *heads.head_rules())
RULES = (*resnet.trunk_rules("backbone.", "backbone/"), *_HEADS)
READING = (*RULES, *resnet.trunk_rules("", "backbone/"))  # training may start from a classifier's file

SWIN_RULES = (*swin_features.mmseg_rules("backbone.", "backbone/"), *_HEADS)
SWIN_READING = (*SWIN_RULES, *swin_features.mmseg_rules("", "backbone/"), *swin.timm_rules("backbone/"))
TRANSFORMERS_RULES = (
  *swin_features.transformers_rules("backbone.", "backbone/"),
  *_decode_rules("batch_norm"),
  *heads.head_rules("classifier", "batch_norm"),
)
