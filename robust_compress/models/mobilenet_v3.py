"""MobileNetV3-Large 1.0 (Howard et al. 2019, arXiv:1905.02244), of torchvision and timm.

    x[b h w 3] ─stem 3×3 /2─▶ 15 blocks, four of them /2 ─▶ head 1×1 ─mean─▶ pre ─dropout─classifier─▶ [b k]

    block:  x ─┬─ expand 1×1 ─ depthwise 3×3 or 5×5 ─ gate ─ project 1×1 ─(+)─▶
               └────────────── x, where shapes are equal ─────────────────┘

    gate:   x ─┬─ mean ─ reduce ─ ReLU ─ expand ─ hard sigmoid ─(×)─▶          (squeeze-and-excitation)
               └───────────────────── x ─────────────────────────┘

The variants differ in batch norm alone: torchvision's has ε 1e-3 and momentum 0.01, timm's 1e-5 and 0.1.
`MobileNetV3` classifies; `Trunk` gives detectors the features they use.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.layers import BatchNorm, conv_init, dense_init
from robust_compress.models.mobilenet_v2 import ConvNorm, InvertedResidual, conv_norm_rules, scaled, timm_blocks


class _Block(NamedTuple):
  name: str  # after timm's stage and place in it
  size: int
  expanded: int
  width: int
  gated: bool
  hard_swish: bool  # ReLU otherwise
  stride: int


BLOCKS = (
  _Block("blocks_0_0", 3, 16, 16, False, False, 1),
  _Block("blocks_1_0", 3, 64, 24, False, False, 2),
  _Block("blocks_1_1", 3, 72, 24, False, False, 1),
  _Block("blocks_2_0", 5, 72, 40, True, False, 2),
  _Block("blocks_2_1", 5, 120, 40, True, False, 1),
  _Block("blocks_2_2", 5, 120, 40, True, False, 1),
  _Block("blocks_3_0", 3, 240, 80, False, True, 2),
  _Block("blocks_3_1", 3, 200, 80, False, True, 1),
  _Block("blocks_3_2", 3, 184, 80, False, True, 1),
  _Block("blocks_3_3", 3, 184, 80, False, True, 1),
  _Block("blocks_4_0", 3, 480, 112, True, True, 1),
  _Block("blocks_4_1", 3, 672, 112, True, True, 1),
  _Block("blocks_5_0", 5, 672, 160, True, True, 2),
  _Block("blocks_5_1", 5, 960, 160, True, True, 1),
  _Block("blocks_5_2", 5, 960, 160, True, True, 1),
)


class Gate(nn.Module):
  """Squeeze-and-excitation (Hu et al. 2018): [b h w c] times a factor in [0, 1] a picture and channel."""

  reduced: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    conv = partial(nn.Conv, kernel_size=(1, 1), dtype=self.dtype, kernel_init=conv_init)
    factor = nn.relu(conv(self.reduced, name="reduce")(x.mean((1, 2), keepdims=True)))
    return x * nn.hard_sigmoid(conv(x.shape[-1], name="expand")(factor))


class MobileNetV3(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes]. `dropout` acts before the classifier."""

  n_classes: int = 1000
  multiplier: float = 1.0  # of all widths
  epsilon: float = 1e-5
  momentum: float = 0.1
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.2

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=dense_init)
    x = _features(x, train, self)["head"].mean((1, 2))
    x = nn.hard_swish(dense(scaled(1280, self.multiplier), name="pre")(x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return dense(self.n_classes, name="classifier")(x).astype(jnp.float32)


class Trunk(nn.Module):
  """Normalised pictures float[b h w 3] to the two maps of stride 32 that torchvision's detectors use.

  [dtype[b h/32 w/32 160·multiplier], dtype[b h/32 w/32 960·multiplier]]: after the last block with a stride, and after
  the head.
  """

  multiplier: float = 1.0
  epsilon: float = 1e-5
  momentum: float = 0.1
  dtype: Any = jnp.float32
  batch_norm: str = "local"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
    found = _features(x, train, self)
    return [found["blocks_5_0"], found["head"]]


def _features(x: jax.Array, train: bool, net: MobileNetV3 | Trunk) -> dict[str, jax.Array]:
  """What stem, blocks and head make of x, by their names, inside the module they belong to."""
  norm = partial(BatchNorm, mode=net.batch_norm, momentum=net.momentum, epsilon=net.epsilon, dtype=net.dtype)
  conv = partial(ConvNorm, norm=norm, dtype=net.dtype)
  wide = partial(scaled, multiplier=net.multiplier)
  found = {"stem": conv(wide(16), 3, 2, nn.hard_swish, name="stem")(x, train)}
  x = found["stem"]
  for name, size, expanded, width, gated, hard_swish, stride in BLOCKS:
    activation = nn.hard_swish if hard_swish else nn.relu
    gate = partial(Gate, scaled(wide(expanded) // 4, 1), net.dtype) if gated else None
    x = InvertedResidual(wide(width), wide(expanded), size, stride, activation, conv, gate, name=name)(x, train)
    found[name] = x
  found["head"] = conv(6 * x.shape[-1], activation=nn.hard_swish, name="head")(x, train)
  return found


mobilenet_v3_large = MobileNetV3
mobilenet_v3_large_tv = partial(MobileNetV3, epsilon=1e-3, momentum=0.01)


def torchvision_features(foreign: str = "features.", ours: str = "") -> tuple[convert.Rule, ...]:
  """Rules of stem, blocks and head under torchvision's keys, which begin with `foreign`; our paths begin with `ours`.

  torchvision numbers the parts that a block has: [expand,] depthwise, [gate,] project.
  """
  rules = list(conv_norm_rules(f"{foreign}0.0", f"{foreign}0.1", f"{ours}stem"))
  for i, block in enumerate(BLOCKS, start=1):
    parts = ["expand"] * (i > 1) + ["depthwise"] + ["gate"] * (block.gated) + ["project"]
    for j, part in enumerate(parts):
      theirs, here = f"{foreign}{i}.block.{j}", f"{ours}{block.name}/{part}"
      if part != "gate":
        rules += conv_norm_rules(f"{theirs}.0", f"{theirs}.1", here)
      else:
        rules += convert.conv(f"{theirs}.fc1", f"{here}/reduce", bias=True)
        rules += convert.conv(f"{theirs}.fc2", f"{here}/expand", bias=True)
  rules += conv_norm_rules(f"{foreign}16.0", f"{foreign}16.1", f"{ours}head")
  return tuple(rules)


RULES = (
  *timm_blocks(6),
  *convert.conv("blocks.{s}.{b}.se.conv_reduce", "blocks_{s}_{b}/gate/reduce", bias=True),
  *convert.conv("blocks.{s}.{b}.se.conv_expand", "blocks_{s}_{b}/gate/expand", bias=True),
  *conv_norm_rules("blocks.6.0.conv", "blocks.6.0.bn1", "head"),
  convert.Rule("conv_head.weight", "params/pre/kernel", "pointwise"),
  convert.Rule("conv_head.bias", "params/pre/bias"),
  *convert.linear("classifier"),
)

TORCHVISION_RULES = (
  *torchvision_features(),
  *convert.linear("classifier.0", "pre"),
  *convert.linear("classifier.3", "classifier"),
)
