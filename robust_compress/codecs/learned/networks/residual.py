"""The residual blocks and the attention of Cheng et al. 2020 (arXiv:2001.01568), as CompressAI simplifies them.

residual:  x ─┬─ 3×3 ─ lrelu ─ 3×3 ─ lrelu ─(+)─▶            down:  x ─┬─ 3×3 /2 ─ lrelu ─ 3×3 ─ GDN ─(+)─▶
              └──────────────────────────────┘                        └─────────── 1×1 /2 ────────────┘

up:  x ─┬─ subpixel ─ lrelu ─ 3×3 ─ IGDN ─(+)─▶              attention:  x ─┬─ unit ×3 ──────────────────(×)─(+)─▶
        └──────────── subpixel ────────────┘                                ├─ unit ×3 ─ 1×1 ─ sigmoid ──┘    │
                                                                            └─────────────────────────────────┘
unit:  x ─┬─ 1×1 to c/2 ─ relu ─ 3×3 ─ relu ─ 1×1 to c ─(+)─ relu ─▶
          └──────────────────────────────────────────────┘
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.codecs.learned.networks.layers import GDN, Conv, Pointwise, leaky_relu, subpixel


class ResidualBlock(nn.Module):
  """[b h w width] to the same."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.conv1, self.conv2 = Conv(self.width, **types), Conv(self.width, **types)

  def __call__(self, x: jax.Array) -> jax.Array:
    return leaky_relu(self.conv2(leaky_relu(self.conv1(x)))) + x


class ResidualDown(nn.Module):
  """[b h w c] to [b h/2 w/2 width]."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.conv1, self.conv2 = Conv(self.width, stride=2, **types), Conv(self.width, **types)
    self.gdn, self.skip = GDN(**types), Conv(self.width, 1, 2, **types)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.gdn(self.conv2(leaky_relu(self.conv1(x)))) + self.skip(x)


class ResidualUp(nn.Module):
  """[b h w c] to [b 2h 2w width]."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.subpel_conv, self.conv = subpixel(self.width, **types), Conv(self.width, **types)
    self.igdn, self.upsample = GDN(inverse=True, **types), subpixel(self.width, **types)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.igdn(self.conv(leaky_relu(self.subpel_conv(x)))) + self.upsample(x)


class Unit(nn.Module):
  """[b h w width] to the same, through half the channels."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    types, half = {"dtype": self.dtype, "param_dtype": self.param_dtype}, self.width // 2
    narrow = [Pointwise(half, **types), nn.relu, Conv(half, **types), nn.relu, Pointwise(self.width, **types)]
    self.conv = nn.Sequential(narrow)

  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.relu(self.conv(x) + x)


class Attention(nn.Module):
  """Each position of x[b h w width] gains what one branch computes, as far as the other lets it."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    units = [[Unit(self.width, **types) for _ in range(3)] for _ in range(2)]
    self.conv_a = nn.Sequential(units[0])
    self.conv_b = nn.Sequential([*units[1], Pointwise(self.width, **types)])

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.conv_a(x) * nn.sigmoid(self.conv_b(x)) + x
