"""Swin as the trunk of a segmenter: the map of every stage, as MMSegmentation and transformers have it.

x[b h w 3] ─patches─▶ stage 0 ─┬─merge /2─▶ stage 1 ─┬─merge /2─▶ …      blocks of `swin.py`, whose windows are always
                               └─norm0─▶ [b h/4 w/4 c] └─norm1─▶ …       whole, even where the map is smaller
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.swin import OURS, TABLE, LayerNorm, stages


class Features(nn.Module):
  """Normalised pictures float[b h w 3] to the normed map of every stage, [dtype[b h/4 w/4 c], …], finest first.

  `dropout` and `batch_norm` are as in `SwinTransformer`.
  """

  width: int
  depths: tuple[int, ...]
  heads: tuple[int, ...]
  window: int = 7
  patch: int = 4
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
    found = stages(x, train, self, whole=True)
    return [LayerNorm(dtype=self.dtype, name=f"norm{i}")(x) for i, x in enumerate(found)]


tiny_features = partial(Features, 96, (2, 2, 6, 2), (3, 6, 12, 24))


def mmseg_rules(foreign: str, ours: str) -> tuple[convert.Rule, ...]:
  """Rules of `Features` under MMSegmentation's keys that begin with `foreign` ('backbone.'), path with `ours`.

  There a stage ends with the merging that ours begin with.
  """
  o, block = f"{ours}{OURS}", f"{foreign}stages.{{s}}.blocks.{{b}}"
  return (
    *convert.conv(f"{foreign}patch_embed.projection", f"{ours}patch_embed", bias=True),
    *convert.layer_norm(f"{foreign}patch_embed.norm", f"{ours}patch_norm"),
    *convert.layer_norm(f"{block}.norm{{i}}", f"{o}/norm{{i}}"),
    *convert.linear(f"{block}.attn.w_msa.qkv", f"{o}/attn/qkv"),
    *convert.linear(f"{block}.attn.w_msa.proj", f"{o}/attn/proj"),
    convert.Rule(f"{block}.attn.w_msa.{TABLE}", f"params/{o}/attn/{TABLE}"),
    convert.Rule(f"{block}.attn.w_msa.relative_position_index", "", "ignored"),
    *convert.linear(f"{block}.ffn.layers.0.0", f"{o}/mlp/fc1"),
    *convert.linear(f"{block}.ffn.layers.1", f"{o}/mlp/fc2"),
    *(rule for s in range(3) for rule in _merging(f"{foreign}stages.{s}", f"{ours}layers{s + 1}_downsample")),
    *convert.layer_norm(f"{foreign}norm{{i}}", f"{ours}norm{{i}}"),
  )


def _merging(foreign: str, ours: str) -> tuple[convert.Rule, ...]:
  """MMSegmentation takes the four pixels in another order."""
  return (
    convert.Rule(f"{foreign}.downsample.norm.weight", f"params/{ours}/norm/scale", "unfold"),
    convert.Rule(f"{foreign}.downsample.norm.bias", f"params/{ours}/norm/bias", "unfold"),
    convert.Rule(f"{foreign}.downsample.reduction.weight", f"params/{ours}/reduction/kernel", "unfold_linear"),
  )


def transformers_rules(foreign: str, ours: str) -> tuple[convert.Rule, ...]:
  """The same under the keys of transformers' files, in which queries, keys and values are apart."""
  o, block = f"{ours}{OURS}", f"{foreign}encoder.layers.{{s}}.blocks.{{b}}"
  attention = f"{block}.attention"
  parts = [(f"{attention}.self.{name}", (i, 3)) for i, name in enumerate(("query", "key", "value"))]
  merging = [(f"{foreign}encoder.layers.{s}.downsample", f"{ours}layers{s + 1}_downsample") for s in range(3)]
  return (
    *convert.conv(f"{foreign}embeddings.patch_embeddings.projection", f"{ours}patch_embed", bias=True),
    *convert.layer_norm(f"{foreign}embeddings.norm", f"{ours}patch_norm"),
    *convert.layer_norm(f"{block}.layernorm_before", f"{o}/norm1"),
    *convert.layer_norm(f"{block}.layernorm_after", f"{o}/norm2"),
    *(convert.Rule(f"{key}.weight", f"params/{o}/attn/qkv/kernel", "linear", part) for key, part in parts),
    *(convert.Rule(f"{key}.bias", f"params/{o}/attn/qkv/bias", "same", part) for key, part in parts),
    *convert.linear(f"{attention}.output.dense", f"{o}/attn/proj"),
    convert.Rule(f"{attention}.self.{TABLE}", f"params/{o}/attn/{TABLE}"),
    convert.Rule(f"{attention}.self.relative_position_index", "", "ignored"),
    *convert.linear(f"{block}.intermediate.dense", f"{o}/mlp/fc1"),
    *convert.linear(f"{block}.output.dense", f"{o}/mlp/fc2"),
    *(rule for f, o in merging for rule in convert.layer_norm(f"{f}.norm", f"{o}/norm")),
    *(rule for f, o in merging for rule in convert.linear(f"{f}.reduction", f"{o}/reduction", bias=False)),
    *(rule for i in range(4) for rule in _stage_norm(foreign, ours, i)),
  )


def _stage_norm(foreign: str, ours: str, i: int) -> tuple[convert.Rule, ...]:
  return convert.layer_norm(f"{foreign}hidden_states_norms.stage{i + 1}", f"{ours}norm{i}")
