"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), as timm has it: class token, pre-norm, exact GELU.

x[b h w 3] ─conv p×p /p─▶ [b n c] ─prepend class token, add positions─▶ blocks ─norm─first token─head─▶ [b k]

block:  x ─┬─norm1─attention─(+)─┬─norm2─mlp─(+)─▶
           └──────────────────┘  └───────────┘
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.layers import LayerNorm, Mlp, StochasticDepth, dense_init, depth_rates
from robust_compress.types import SpecError


class Attention(nn.Module):
  """Multi-head self-attention, x[b n c] to [b n c]; softmax in float32."""

  heads: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    b, n, c = x.shape
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=dense_init)
    qkv = dense(3 * c, name="qkv")(x).reshape(b, n, 3, self.heads, c // self.heads)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query * (c // self.heads) ** -0.5, key)
    share = nn.softmax(logits.astype(jnp.float32)).astype(self.dtype)
    x = jnp.einsum("bhqk,bkhd->bqhd", share, value)
    return dense(c, name="proj")(x.reshape(b, n, c))


class Block(nn.Module):
  """Attention and MLP, each behind a norm and around a shortcut; x[b n c] to [b n c]."""

  heads: int
  dropout: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = Attention(self.heads, self.dtype, name="attn")(LayerNorm(dtype=self.dtype, name="norm1")(x))
    x = x + StochasticDepth(self.dropout)(y, train)
    y = Mlp(4 * x.shape[-1], self.dtype, name="mlp")(LayerNorm(dtype=self.dtype, name="norm2")(x))
    return x + StochasticDepth(self.dropout)(y, train)


class VisionTransformer(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes].

  The positions fix the picture's size: variables made for one size fit no other, and pictures are square. `dropout` is
  stochastic depth; there is no batch norm, so `batch_norm` changes nothing.

  Raises:
    SpecError: pictures of another size than the variables are for.
  """

  width: int
  depth: int
  heads: int
  patch: int = 16
  n_classes: int = 1000
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    self._check_size(*x.shape[1:3])
    patch = (self.patch, self.patch)
    x = nn.Conv(self.width, patch, patch, "VALID", dtype=self.dtype, kernel_init=dense_init, name="patch_embed")(x)
    x = x.reshape(x.shape[0], -1, self.width)
    token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.width), jnp.float32)
    positions = self.param("pos_embed", dense_init, (1, x.shape[1] + 1, self.width), jnp.float32)
    token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
    x = jnp.concatenate([token, x], axis=1) + positions.astype(x.dtype)
    for i, rate in enumerate(depth_rates(self.dropout, self.depth)):
      x = Block(self.heads, rate, self.dtype, name=f"blocks_{i}")(x, train)
    x = LayerNorm(dtype=self.dtype, name="norm")(x[:, 0])
    x = nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="head")(x)
    return x.astype(jnp.float32)

  def _check_size(self, height: int, width: int) -> None:
    """A picture of another shape with as many patches would pass unnoticed, and one cut to whole patches too."""
    side = height // self.patch
    if self.has_variable("params", "pos_embed"):
      side = math.isqrt(self.get_variable("params", "pos_embed").shape[1] - 1)
    size = side * self.patch
    if (height, width) != (size, size):
      raise SpecError(
        f"this Vision Transformer takes pictures of {size}x{size}, not {width}x{height}; use input=model, or a view "
        f"that ends in that size, such as crop={size}"
      )


vit_tiny = partial(VisionTransformer, 192, 12, 3)
vit_small = partial(VisionTransformer, 384, 12, 6)
vit_base = partial(VisionTransformer, 768, 12, 12)

RULES = (
  convert.Rule("cls_token", "params/cls_token"),
  convert.Rule("pos_embed", "params/pos_embed"),
  *convert.conv("patch_embed.proj", "patch_embed", bias=True),
  *convert.layer_norm("blocks.{b}.norm{i}", "blocks_{b}/norm{i}"),
  *convert.linear("blocks.{b}.attn.qkv", "blocks_{b}/attn/qkv"),
  *convert.linear("blocks.{b}.attn.proj", "blocks_{b}/attn/proj"),
  *convert.linear("blocks.{b}.mlp.fc{i}", "blocks_{b}/mlp/fc{i}"),
  *convert.layer_norm("norm"),
  *convert.linear("head"),
)
