"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030), in timm's layout: patch merging opens a stage.

    x[b h w 3] ─conv 4×4 /4─norm─▶ blocks ─▶ merge /2 ─▶ blocks ─▶ merge /2 ─▶ … ─norm─mean─head─▶ [b k]

    block:  x ─┬─norm1─windows─attention─back─(+)─┬─norm2─mlp─(+)─▶     every second block rolls the map by half a
               └────────────────────────────┘     └───────────┘         window first, and back after

A map that windows do not divide is padded at the right and bottom after the roll, as timm does; in blocks of
`whole` windows before it, as MMSegmentation and transformers do (`swin_features.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import convert
from robust_compress.models import layers
from robust_compress.models.layers import Mlp, StochasticDepth, dense_init, depth_rates

LayerNorm = partial(layers.LayerNorm, epsilon=1e-5)
Size = tuple[int, int]


class WindowAttention(nn.Module):
  """Self-attention in windows with a learnt bias by relative position, x[b m n c] to [b m n c], n tokens a window.

  The table of biases always has the size of the full `table` window; a smaller window uses its middle.
  """

  heads: int
  window: Size
  table: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
    b, m, n, c = x.shape
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=dense_init)
    qkv = dense(3 * c, name="qkv")(x).reshape(b, m, n, 3, self.heads, c // self.heads)
    query, key, value = jnp.moveaxis(qkv, 3, 0)
    logits = jnp.einsum("bmqhd,bmkhd->bmhqk", query * (c // self.heads) ** -0.5, key).astype(jnp.float32)
    shape = ((2 * self.table - 1) ** 2, self.heads)
    biases = self.param("relative_position_bias_table", dense_init, shape, jnp.float32)
    bias = jnp.moveaxis(biases[relative_positions(self.window, self.table)], -1, 0)  # h q k
    logits += bias if mask is None else bias + mask[:, None]
    x = jnp.einsum("bmhqk,bmkhd->bmqhd", nn.softmax(logits).astype(self.dtype), value)
    return dense(c, name="proj")(x.reshape(b, m, n, c))


class Block(nn.Module):
  """Windowed attention and MLP, each behind a norm and around a shortcut; x[b h w c] to [b h w c]."""

  heads: int
  window: int
  shifted: bool
  dropout: float
  dtype: Any = jnp.float32
  whole: bool = False  # windows are never cut down to the map; the map is padded, and then rolled

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = self._attend(LayerNorm(dtype=self.dtype, name="norm1")(x))
    x = x + StochasticDepth(self.dropout)(y, train)
    y = Mlp(4 * x.shape[-1], self.dtype, name="mlp")(LayerNorm(dtype=self.dtype, name="norm2")(x))
    return x + StochasticDepth(self.dropout)(y, train)

  def _attend(self, x: jax.Array) -> jax.Array:
    size: Size = x.shape[1:3]
    window = (self.window, self.window) if self.whole else (min(self.window, size[0]), min(self.window, size[1]))
    x = pad_to_multiple(x, window) if self.whole else x
    rolled: Size = x.shape[1:3]
    # An axis that is one window long has nothing to shift into.
    moves = [self.shifted and (self.whole or n > w) for n, w in zip(size, window)]
    shift = [self.window // 2 if move else 0 for move in moves]
    x = jnp.roll(x, (-shift[0], -shift[1]), (1, 2)) if any(shift) else x
    padded = pad_to_multiple(x, window)
    mask = shift_mask(padded.shape[1:3], window, shift) if any(shift) else None
    attention = WindowAttention(self.heads, window, self.window, self.dtype, name="attn")
    x = from_windows(attention(to_windows(padded, window), mask), window, padded.shape[1:3])
    x = x[:, : rolled[0], : rolled[1]]
    x = jnp.roll(x, (shift[0], shift[1]), (1, 2)) if any(shift) else x
    return x[:, : size[0], : size[1]]


class PatchMerging(nn.Module):
  """Neighbouring 2×2 positions become one, x[b h w c] to [b ⌈h/2⌉ ⌈w/2⌉ 2c]."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = pad_to_multiple(x, (2, 2))
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5).reshape(b, h // 2, w // 2, 4 * c)
    x = LayerNorm(dtype=self.dtype, name="norm")(x)
    return nn.Dense(2 * c, use_bias=False, dtype=self.dtype, kernel_init=dense_init, name="reduction")(x)


class SwinTransformer(nn.Module):
  """Normalised pictures float[b h w 3], of any size, to logits float32[b n_classes].

  `dropout` is stochastic depth; there is no batch norm, so `batch_norm` changes nothing.
  """

  width: int
  depths: tuple[int, ...]
  heads: tuple[int, ...]
  window: int = 7
  patch: int = 4
  n_classes: int = 1000
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = stages(x, train, self)[-1]
    x = LayerNorm(dtype=self.dtype, name="norm")(x).mean((1, 2))
    x = nn.Dense(self.n_classes, dtype=self.dtype, kernel_init=dense_init, name="head")(x)
    return x.astype(jnp.float32)


def stages(x: jax.Array, train: bool, net: Any, whole: bool = False) -> list[jax.Array]:
  """The map of every stage of pictures x[b h w 3], inside the module whose blocks they are.

  `net` has a SwinTransformer's fields; `whole` is that of its blocks.
  """
  patch, found = (net.patch, net.patch), []
  embed = nn.Conv(net.width, patch, patch, "VALID", dtype=net.dtype, kernel_init=dense_init, name="patch_embed")
  x = LayerNorm(dtype=net.dtype, name="patch_norm")(embed(pad_to_multiple(x, patch)))
  rates = iter(depth_rates(net.dropout, sum(net.depths)))
  for stage, (depth, heads) in enumerate(zip(net.depths, net.heads, strict=True)):
    if stage:
      x = PatchMerging(net.dtype, name=f"layers{stage}_downsample")(x)
    for i in range(depth):
      name = f"layers{stage}_blocks{i}"
      x = Block(heads, net.window, i % 2 == 1, next(rates), net.dtype, whole, name=name)(x, train)
    found.append(x)
  return found


def pad_to_multiple(x: jax.Array, size: Size) -> jax.Array:
  """Zeros at the right and bottom of x[b h w c], so that `size` divides it."""
  bottom, right = -x.shape[1] % size[0], -x.shape[2] % size[1]
  return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


def to_windows(x: Any, window: Size) -> Any:
  """[b h w c] to [b m n c]: m windows in reading order, n = their area."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // window[0], window[0], w // window[1], window[1], c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, window[0] * window[1], c)


def from_windows(x: jax.Array, window: Size, size: Size) -> jax.Array:
  """The inverse of `to_windows`."""
  (h, w), c = size, x.shape[-1]
  x = x.reshape(-1, h // window[0], w // window[1], *window, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)


def relative_positions(window: Size, table: int) -> np.ndarray:
  """int[n n]: the row of the bias table for every pair (query, key) of a window's n positions."""
  at = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij")).reshape(2, -1)
  row, column = at[:, :, None] - at[:, None, :] + table - 1
  return row * (2 * table - 1) + column


def shift_mask(size: Size, window: Size, shift: list[int]) -> np.ndarray:
  """float32[m n n]: −100 where the roll has brought together two positions from opposite edges, else 0."""
  row, column = (np.digitize(np.arange(n), [n - w, n - s]) for n, w, s in zip(size, window, shift))
  region = to_windows((3 * row[:, None] + column)[None, :, :, None], window)[0, :, :, 0]
  return np.where(region[:, :, None] == region[:, None, :], 0, -100).astype(np.float32)


swin_tiny = partial(SwinTransformer, 96, (2, 2, 6, 2), (3, 6, 12, 24))
swin_small = partial(SwinTransformer, 96, (2, 2, 18, 2), (3, 6, 12, 24))
swin_base = partial(SwinTransformer, 128, (2, 2, 18, 2), (4, 8, 16, 32))

_BLOCK, OURS, TABLE = "layers.{s}.blocks.{b}", "layers{s}_blocks{b}", "relative_position_bias_table"


def timm_rules(ours: str = "") -> tuple[convert.Rule, ...]:
  """Rules of the patches and stages, path with `ours` ('backbone/'), under timm's keys."""
  o = f"{ours}{OURS}"
  return (
    *convert.conv("patch_embed.proj", f"{ours}patch_embed", bias=True),
    *convert.layer_norm("patch_embed.norm", f"{ours}patch_norm"),
    *convert.layer_norm(f"{_BLOCK}.norm{{i}}", f"{o}/norm{{i}}"),
    *convert.linear(f"{_BLOCK}.attn.qkv", f"{o}/attn/qkv"),
    *convert.linear(f"{_BLOCK}.attn.proj", f"{o}/attn/proj"),
    convert.Rule(f"{_BLOCK}.attn.{TABLE}", f"params/{o}/attn/{TABLE}"),
    *convert.linear(f"{_BLOCK}.mlp.fc{{i}}", f"{o}/mlp/fc{{i}}"),
    *convert.layer_norm("layers.{s}.downsample.norm", f"{ours}layers{{s}}_downsample/norm"),
    *convert.linear("layers.{s}.downsample.reduction", f"{ours}layers{{s}}_downsample/reduction", bias=False),
    convert.Rule(f"{_BLOCK}.attn.relative_position_index", "", "ignored"),  # older files keep these constants
    convert.Rule(f"{_BLOCK}.attn_mask", "", "ignored"),
  )


RULES = (*timm_rules(), *convert.layer_norm("norm"), *convert.linear("head.fc", "head"))
