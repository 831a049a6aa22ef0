"""MobileNetV2 1.0 (Sandler et al. 2018, arXiv:1801.04381), of timm, torchvision and TensorFlow.

    x[b h w 3] ─stem 3×3 /2─▶ 17 blocks, five of them /2 ─▶ head 1×1 ─mean─dropout─classifier─▶ [b k]

    block:  x ─┬─ expand 1×1 ─ depthwise 3×3 ─ project 1×1 ─(+)─▶      every arrow: convolution, norm, ReLU6;
               └──────── x, where shapes are equal ──────────┘         project has no ReLU6

TensorFlow's variant (`mobilenet_v2_tf`) pads as 'SAME', has its batch norm folded into the convolutions and a
background class in front of the thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.depthwise import DepthwiseConv, PointwiseConv
from robust_compress.models.layers import BatchNorm, conv_init, dense_init

Activation = Callable[[jax.Array], jax.Array]

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
BLOCKS = [(stage, block) for stage, (_, _, depth, _) in enumerate(STAGES) for block in range(depth)]  # timm's names


def scaled(width: int, multiplier: float) -> int:
  """The width times a multiplier, as a multiple of 8 that is not less than nine tenths of it."""
  exact = width * multiplier
  nearest = max(8, int(exact + 4) // 8 * 8)
  return nearest if nearest >= 0.9 * exact else nearest + 8


class ConvNorm(nn.Module):
  """Convolution, norm, activation: [b h w c] to [b h/stride w/stride width]. `norm=None`: a bias in its place."""

  width: int
  size: int = 1
  stride: int = 1
  activation: Activation | None = None
  depthwise: bool = False
  norm: Callable[..., nn.Module] | None = BatchNorm
  padding: str = "torch"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    bias = self.norm is None
    if self.depthwise:
      x = DepthwiseConv(self.size, self.stride, self.padding, bias, self.dtype, name="conv")(x)
    elif self.size == 1:
      x = PointwiseConv(self.width, bias, self.dtype, name="conv")(x)
    else:
      pads = "SAME" if self.padding == "SAME" else ((self.size // 2, self.size // 2),) * 2
      size, options = (self.size, self.size), {"dtype": self.dtype, "kernel_init": conv_init, "name": "conv"}
      x = nn.Conv(self.width, size, self.stride, pads, use_bias=bias, **options)(x)
    if self.norm is not None:
      x = self.norm(name="bn")(x, train)
    return x if self.activation is None else self.activation(x)


class InvertedResidual(nn.Module):
  """Expand, filter each channel, project: [b h w c] to [b h/stride w/stride width]. MobileNetV3's block too.

  `gate` is applied between filter and projection (V3's squeeze-and-excitation). Nothing expands c to c.
  """

  width: int
  expanded: int
  size: int
  stride: int
  activation: Activation
  conv: Callable[..., nn.Module]
  gate: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    shortcut = x
    if self.expanded != x.shape[-1]:
      x = self.conv(self.expanded, activation=self.activation, name="expand")(x, train)
    filtering = {"depthwise": True, "activation": self.activation, "name": "depthwise"}
    x = self.conv(self.expanded, self.size, self.stride, **filtering)(x, train)
    if self.gate is not None:
      x = self.gate(name="gate")(x)
    x = self.conv(self.width, name="project")(x, train)
    return x + shortcut if x.shape == shortcut.shape else x


class MobileNetV2(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes]. `dropout` acts before the classifier."""

  n_classes: int = 1000
  multiplier: float = 1.0  # of all widths but the head's, which does not shrink
  folded: bool = False  # no batch norm: its gain and shift are in the convolutions
  padding: str = "torch"
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.2

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    norm = None if self.folded else partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)
    conv = partial(ConvNorm, norm=norm, padding=self.padding, dtype=self.dtype)
    x = conv(scaled(32, self.multiplier), 3, 2, nn.relu6, name="stem")(x, train)
    for stage, block in BLOCKS:
      ratio, width, _, stride = STAGES[stage]
      expanded, stride = ratio * x.shape[-1], stride if block == 0 else 1
      width = scaled(width, self.multiplier)
      x = InvertedResidual(width, expanded, 3, stride, nn.relu6, conv, name=f"blocks_{stage}_{block}")(x, train)
    x = conv(scaled(1280, max(1.0, self.multiplier)), activation=nn.relu6, name="head")(x, train).mean((1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="classifier")(x)
    return x.astype(jnp.float32)


mobilenet_v2 = MobileNetV2
mobilenet_v2_tf = partial(MobileNetV2, n_classes=1001, folded=True, padding="SAME")


def conv_norm_rules(conv: str, norm: str, ours: str) -> tuple[convert.Rule, ...]:
  """A convolution and its batch norm, by their foreign names, to the ConvNorm at `ours`."""
  return *convert.conv(conv, f"{ours}/conv"), *convert.batch_norm(norm, f"{ours}/bn")


def timm_blocks(n_stages: int) -> tuple[convert.Rule, ...]:
  """Stem and blocks in timm's names, which V3 shares. The first block expands nothing, so its parts are named apart."""
  rules = list(conv_norm_rules("conv_stem", "bn1", "stem"))
  rules += conv_norm_rules("blocks.0.0.conv_dw", "blocks.0.0.bn1", "blocks_0_0/depthwise")
  rules += conv_norm_rules("blocks.0.0.conv_pw", "blocks.0.0.bn2", "blocks_0_0/project")
  parts = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
  for stage in range(1, n_stages):
    for part, (conv, norm) in parts.items():
      block = f"blocks.{stage}.{{b}}"
      rules += conv_norm_rules(f"{block}.{conv}", f"{block}.{norm}", f"blocks_{stage}_{{b}}/{part}")
  return tuple(rules)


def _torchvision_blocks() -> tuple[convert.Rule, ...]:
  rules = list(conv_norm_rules("features.1.conv.0.0", "features.1.conv.0.1", "blocks_0_0/depthwise"))
  rules += conv_norm_rules("features.1.conv.1", "features.1.conv.2", "blocks_0_0/project")
  parts = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
  for i, (stage, block) in enumerate(BLOCKS[1:], start=2):
    for part, (conv, norm) in parts.items():
      foreign = f"features.{i}.conv"
      rules += conv_norm_rules(f"{foreign}.{conv}", f"{foreign}.{norm}", f"blocks_{stage}_{block}/{part}")
  return tuple(rules)


def _tensorflow_blocks() -> tuple[convert.Rule, ...]:
  names = {"Conv": "stem", "Conv_1": "head"}
  for i, (stage, block) in enumerate(BLOCKS):
    scope = f"expanded_conv_{i}" if i else "expanded_conv"
    names |= {f"{scope}/{part}": f"blocks_{stage}_{block}/{part}" for part in ("expand", "depthwise", "project")}
  ends = ("kernel", "bias")
  return tuple(
    convert.Rule(f"{foreign}/{x}", f"params/{ours}/conv/{x}") for foreign, ours in names.items() for x in ends
  )


RULES = (*timm_blocks(len(STAGES)), *conv_norm_rules("conv_head", "bn2", "head"), *convert.linear("classifier"))

TORCHVISION_RULES = (
  *conv_norm_rules("features.0.0", "features.0.1", "stem"),
  *_torchvision_blocks(),
  *conv_norm_rules("features.18.0", "features.18.1", "head"),
  *convert.linear("classifier.1", "classifier"),
)

TENSORFLOW_RULES = (
  *_tensorflow_blocks(),
  convert.Rule("Logits/Conv2d_1c_1x1/kernel", "params/classifier/kernel", "pointwise_hwio"),
  convert.Rule("Logits/Conv2d_1c_1x1/bias", "params/classifier/bias"),
)
