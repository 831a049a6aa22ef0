"""What MMSegmentation's segmenters share: the unit of convolution, the auxiliary head, and the way to the outputs.

features ──▶ decode head ──▶ features ─dropout─conv 1×1─▶ logits ─bilinear─▶ logits[b h w k] of the picture's size
       └───▶ FCN head, in training only ───────────────▶ 'auxiliary', alike
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models import sampling
from robust_compress.models.layers import BatchNorm
from robust_compress.models.resnet import conv_layer

conv_seg_init = nn.initializers.normal(0.01)


class ConvUnit(nn.Module):
  """conv─norm─relu, x[b h w c] to dtype[b h w width]."""

  width: int
  size: int = 1
  dilation: int = 1
  dtype: Any = jnp.float32
  batch_norm: str = "local"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = conv_layer(self.width, self.size, 1, self.dilation, dtype=self.dtype, name="conv")(x)
    return nn.relu(BatchNorm(self.batch_norm, dtype=self.dtype, name="bn")(x, train))


class Scores(nn.Module):
  """Whole channels dropped while training, then a class a position: x[b h w c] to dtype[b h w k]."""

  n_classes: int
  dropout: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
    return nn.Conv(self.n_classes, (1, 1), dtype=self.dtype, kernel_init=conv_seg_init, name="conv_seg")(x)


class FcnHead(nn.Module):
  """One unit of 3×3 and the scores: x[b h w c] to dtype[b h w k] (Long et al. 2015, arXiv:1411.4038)."""

  width: int
  n_classes: int
  dropout: float
  dtype: Any = jnp.float32
  batch_norm: str = "local"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = ConvUnit(self.width, 3, 1, self.dtype, self.batch_norm, name="convs_0")(x, train)
    return Scores(self.n_classes, self.dropout, self.dtype, name="scores")(x, train)


def outputs(size: tuple[int, int], align_corners: bool, **found: jax.Array) -> dict[str, jax.Array]:
  """Named logits as float32[b *size k]."""
  return {name: sampling.resize(x.astype(jnp.float32), size, align_corners) for name, x in found.items()}


def unit_rules(key: str, ours: str, norm: str = "bn") -> tuple[convert.Rule, ...]:
  """Rules of a `ConvUnit`; its batch norm is called `norm` on the other side."""
  return (*convert.conv(f"{key}.conv", f"{ours}/conv"), *convert.batch_norm(f"{key}.{norm}", f"{ours}/bn"))


def head_rules(scores: str = "conv_seg", norm: str = "bn") -> tuple[convert.Rule, ...]:
  """Rules of the auxiliary head and of the scores of both, which are called `scores` on the other side."""
  return (
    *unit_rules("auxiliary_head.convs.0", "auxiliary_head/convs_0", norm),
    *convert.conv(f"auxiliary_head.{scores}", "auxiliary_head/scores/conv_seg", bias=True),
    *convert.conv(f"decode_head.{scores}", "decode_head/scores/conv_seg", bias=True),
  )
