"""ResNet (He et al. 2016, arXiv:1512.03385), as torchvision and timm have it: the stride sits in the 3×3 convolution.

x[b h w 3] ─conv 7×7 /2─norm─relu─maxpool 3×3 /2─▶ layer1 ─▶ layer2 /2 ─▶ layer3 /2 ─▶ layer4 /2 ─mean─fc─▶ [b k]

block:  x ─┬─ (conv─norm─relu)… conv─norm ─(+)─relu─▶
           └─────── downsample or x ───────┘
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.layers import BatchNorm, StochasticDepth, conv_init, dense_init, depth_rates
from robust_compress.models.pooling import max_pool
from robust_compress.models.stem import StemConv


class Block(nn.Module):
  """A residual block, x[b h w c] to [b h/stride w/stride width·expansion]: two 3×3, or 1×1, 3×3, 1×1 (bottleneck)."""

  width: int
  stride: int
  bottleneck: bool
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    out = self.width * (4 if self.bottleneck else 1)
    plan = [(self.width, 3, self.stride), (out, 3, 1)]
    if self.bottleneck:
      plan = [(self.width, 1, 1), (self.width, 3, self.stride), (out, 1, 1)]
    shortcut = x
    for i, (width, size, stride) in enumerate(plan, start=1):
      x = self.conv(width, size, stride, name=f"conv{i}")(x)
      last = i == len(plan)
      init = nn.initializers.zeros if last else nn.initializers.ones  # a block starts as the identity
      x = self.norm(scale_init=init, name=f"bn{i}")(x, train)
      x = x if last else nn.relu(x)
    if shortcut.shape != x.shape:
      shortcut = self.conv(out, 1, self.stride, name="downsample_0")(shortcut)
      shortcut = self.norm(name="downsample_1")(shortcut, train)
    return nn.relu(StochasticDepth(self.dropout)(x, train) + shortcut)


class ResNet(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes].

  `dropout` is stochastic depth. Batch norm follows `batch_norm` (see `layers.BatchNorm`).
  """

  depths: tuple[int, ...]
  bottleneck: bool
  n_classes: int = 1000
  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    conv, norm = partial(conv_layer, dtype=self.dtype), partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)
    rates = iter(depth_rates(self.dropout, sum(self.depths)))
    x = StemConv(64, 7, 3, dtype=self.dtype, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x, train))
    x = max_pool(x, 3, 2, ((1, 1), (1, 1)))
    for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
      for i in range(depth):
        stride = 2 if stage > 0 and i == 0 else 1
        name = f"layer{stage + 1}_{i}"
        x = Block(width, stride, self.bottleneck, conv, norm, next(rates), name=name)(x, train)
    x = x.mean((1, 2))
    x = nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="fc")(x)
    return x.astype(jnp.float32)


def conv_layer(width: int, size: int, stride: int, *, dtype: Any, name: str) -> nn.Conv:
  pad = (size // 2, size // 2)  # PyTorch's symmetric padding; 'SAME' is another where the stride is 2
  return nn.Conv(width, (size, size), stride, (pad, pad), use_bias=False, dtype=dtype, kernel_init=conv_init, name=name)


resnet18 = partial(ResNet, (2, 2, 2, 2), False)
resnet34 = partial(ResNet, (3, 4, 6, 3), False)
resnet50 = partial(ResNet, (3, 4, 6, 3), True)
resnet101 = partial(ResNet, (3, 4, 23, 3), True)
resnet152 = partial(ResNet, (3, 8, 36, 3), True)

RULES = (
  *convert.conv("conv1"),
  *convert.batch_norm("bn1"),
  *convert.conv("layer{s}.{b}.conv{i}", "layer{s}_{b}/conv{i}"),
  *convert.batch_norm("layer{s}.{b}.bn{i}", "layer{s}_{b}/bn{i}"),
  *convert.conv("layer{s}.{b}.downsample.0", "layer{s}_{b}/downsample_0"),
  *convert.batch_norm("layer{s}.{b}.downsample.1", "layer{s}_{b}/downsample_1"),
  *convert.linear("fc"),
)
