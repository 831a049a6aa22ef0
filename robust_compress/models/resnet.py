"""ResNet (He et al. 2016, arXiv:1512.03385), as torchvision and timm have it: the stride sits in the 3×3 convolution.

`ResNet` classifies; `Trunk` gives detectors and segmenters the features of each stage, with strides traded for dilation
where they want finer maps, and MMSegmentation's stem of three 3×3 convolutions (ResNetV1c).

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
from robust_compress.models.layers import BatchNorm, Conv, StochasticDepth, conv_init, dense_init, depth_rates
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
  dilation: int = 1  # of the convolution that has the stride

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    out = self.width * (4 if self.bottleneck else 1)
    plan = [(self.width, 3, self.stride, self.dilation), (out, 3, 1, 1)]
    if self.bottleneck:
      plan = [(self.width, 1, 1, 1), (self.width, 3, self.stride, self.dilation), (out, 1, 1, 1)]
    shortcut = x
    for i, (width, size, stride, dilation) in enumerate(plan, start=1):
      x = self.conv(width, size, stride, dilation, name=f"conv{i}")(x)
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
    rates = depth_rates(self.dropout, sum(self.depths))
    x = stages(_stem(x, train, norm, self.dtype), train, self, conv, norm, rates)[-1]
    x = x.mean((1, 2))
    x = nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="fc")(x)
    return x.astype(jnp.float32)


class Trunk(nn.Module):
  """Normalised pictures float[b h w 3] to the features of every stage, [dtype[b h/4 w/4 c], …], finest first.

  Attributes:
    strides, dilations: of the stages. The first block of a dilated stage has half its dilation, as torchvision's
      `replace_stride_with_dilation` and MMSegmentation's `contract_dilation` do it.
    deep_stem: three 3×3 convolutions in place of the 7×7.
    epsilon: of batch norm.
  """

  depths: tuple[int, ...]
  bottleneck: bool
  widths: tuple[int, ...] = (64, 128, 256, 512)
  strides: tuple[int, ...] = (1, 2, 2, 2)
  dilations: tuple[int, ...] = (1, 1, 1, 1)
  deep_stem: bool = False
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
    conv = partial(conv_layer, dtype=self.dtype)
    norm = partial(BatchNorm, mode=self.batch_norm, epsilon=self.epsilon, dtype=self.dtype)
    stem = _deep_stem if self.deep_stem else _stem
    x = stem(x, train, norm, self.dtype, self.widths[0])
    return stages(x, train, self, conv, norm, [0.0] * sum(self.depths), self.strides, self.dilations)


def stages(
  x: jax.Array,
  train: bool,
  net: ResNet | Trunk,
  conv: Callable[..., nn.Module],
  norm: Callable[..., nn.Module],
  rates: list[float],
  strides: tuple[int, ...] = (1, 2, 2, 2),
  dilations: tuple[int, ...] = (1, 1, 1, 1),
) -> list[jax.Array]:
  """What each stage of residual blocks makes of the stem's x, inside the module whose blocks they are."""
  found, drop = [], iter(rates)
  for stage, (depth, width) in enumerate(zip(net.depths, net.widths, strict=True)):
    for i in range(depth):
      stride = strides[stage] if i == 0 else 1
      dilation = max(dilations[stage] // 2, 1) if i == 0 else dilations[stage]
      name = f"layer{stage + 1}_{i}"
      x = Block(width, stride, net.bottleneck, conv, norm, next(drop), dilation, name=name)(x, train)
    found.append(x)
  return found


def _stem(x: jax.Array, train: bool, norm: Callable[..., nn.Module], dtype: Any, width: int = 64) -> jax.Array:
  x = StemConv(width, 7, 3, dtype=dtype, name="conv1")(x)
  return max_pool(nn.relu(norm(name="bn1")(x, train)), 3, 2, ((1, 1), (1, 1)))


def _deep_stem(x: jax.Array, train: bool, norm: Callable[..., nn.Module], dtype: Any, width: int) -> jax.Array:
  for i, (n, stride) in enumerate(((width // 2, 2), (width // 2, 1), (width, 1))):
    x = conv_layer(n, 3, stride, dtype=dtype, name=f"stem_{3 * i}")(x)
    x = nn.relu(norm(name=f"stem_{3 * i + 1}")(x, train))
  return max_pool(x, 3, 2, ((1, 1), (1, 1)))


def conv_layer(width: int, size: int, stride: int, dilation: int = 1, *, dtype: Any, name: str) -> nn.Conv:
  pad = (size // 2 * dilation,) * 2  # PyTorch's symmetric padding; 'SAME' is another where the stride is 2
  return Conv(
    width, (size, size), stride, (pad, pad), kernel_dilation=dilation, use_bias=False, dtype=dtype,
    kernel_init=conv_init, name=name,
  )  # fmt: skip


resnet18 = partial(ResNet, (2, 2, 2, 2), False)
resnet34 = partial(ResNet, (3, 4, 6, 3), False)
resnet50 = partial(ResNet, (3, 4, 6, 3), True)
resnet101 = partial(ResNet, (3, 4, 23, 3), True)
resnet152 = partial(ResNet, (3, 8, 36, 3), True)


def trunk_rules(foreign: str = "", ours: str = "") -> tuple[convert.Rule, ...]:
  """Rules of a `Trunk` whose keys begin with `foreign` ('backbone.') and whose path with `ours` ('backbone/')."""
  f, o = foreign, ours
  return (
    *convert.conv(f"{f}conv1", f"{o}conv1"),
    *convert.batch_norm(f"{f}bn1", f"{o}bn1"),
    *convert.conv(f"{f}stem.{{i}}", f"{o}stem_{{i}}"),
    *convert.batch_norm(f"{f}stem.{{i}}", f"{o}stem_{{i}}"),
    *convert.conv(f"{f}layer{{s}}.{{b}}.conv{{i}}", f"{o}layer{{s}}_{{b}}/conv{{i}}"),
    *convert.batch_norm(f"{f}layer{{s}}.{{b}}.bn{{i}}", f"{o}layer{{s}}_{{b}}/bn{{i}}"),
    *convert.conv(f"{f}layer{{s}}.{{b}}.downsample.0", f"{o}layer{{s}}_{{b}}/downsample_0"),
    *convert.batch_norm(f"{f}layer{{s}}.{{b}}.downsample.1", f"{o}layer{{s}}_{{b}}/downsample_1"),
  )


RULES = (*trunk_rules(), *convert.linear("fc"))
