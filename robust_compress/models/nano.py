"""A residual network of 0.3 M parameters for small machines: what the quickstart measures and repairs.

x[b h w 3] ─conv 5×5 /2─norm─relu─conv 3×3 /2─norm─relu─▶ block 64 /2 ─▶ block 128 /2 ─mean─fc─▶ [b k]

Blocks are ResNet's (He et al. 2016). The stem overlaps and halves twice, so that waves of three pixels still pass: fine
texture is what compression takes first. About 75 M multiply-adds at 160×160.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.layers import BatchNorm, dense_init
from robust_compress.models.resnet import Block, conv_layer
from robust_compress.models.stem import StemConv


class Nano(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes]. `dropout` is on the features."""

  n_classes: int = 10
  widths: tuple[int, ...] = (64, 128)
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    conv, norm = partial(conv_layer, dtype=self.dtype), partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)
    x = encoded(x, train, self.widths, conv, norm, self.dtype)[-1]
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
    return nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="fc")(x).astype(jnp.float32)


def encoded(
  x: jax.Array, train: bool, widths: tuple[int, ...], conv: Callable[..., Any], norm: Callable[..., Any], dtype: Any
) -> list[jax.Array]:
  """Features of the stem, at a quarter of the picture's side, and of each block, halving it; inside the module whose
  layers they are, so that a file of one network's encoder starts another's."""
  x = nn.relu(norm(name="bn1")(StemConv(24, 5, 2, dtype=dtype, name="conv1")(x), train))
  found = [nn.relu(norm(name="bn2")(conv(48, 3, 2, name="conv2")(x), train))]
  for i, width in enumerate(widths, start=1):
    found.append(Block(width, 2, False, conv, norm, name=f"block{i}")(found[-1], train))
  return found


nano = Nano

ENCODER_RULES = (
  *convert.conv("conv{i}"),
  *convert.batch_norm("bn{i}"),
  *convert.conv("block{b}.conv{i}"),
  *convert.batch_norm("block{b}.bn{i}"),
  *convert.conv("block{b}.downsample.0", "block{b}/downsample_0"),
  *convert.batch_norm("block{b}.downsample.1", "block{b}/downsample_1"),
)

RULES = (*ENCODER_RULES, *convert.linear("fc"))
