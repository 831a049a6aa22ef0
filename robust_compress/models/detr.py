"""DETR (Carion et al. 2020, arXiv:2005.12872): a transformer from a ResNet's last map to a set of boxes, as released.

image[b h w 3] ─trunk /32─1×1─▶ [b n c] ─▶ encoder layers ─▶ memory ─┐
                  positions[b n c] ──┴──(to queries and keys)──┐     │
query_embed[q c] ───────────────────────────────────▶ decoder layers ─norm─▶ class_embed ─▶ logits[b q k+1]
                                                                        └──▶ bbox_embed ─▶ centres, sizes[b q 4]

layer:  x ─┬─attention─(+)─norm─┬─…─(+)─norm─▶      norms come after the sums
           └────────────┘       └─────┘

Attention passes over what lies beyond the picture. Boxes are relative to the picture, not to the padded input. The last
logit is that of no object; `detr_loss` trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.models import boxes as geometry
from robust_compress.models import detr_loss, detr_names, layers
from robust_compress.models.layers import conv_init
from robust_compress.models.resnet import Trunk

LayerNorm = partial(layers.LayerNorm, epsilon=1e-5)
Dense = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


class Attention(nn.Module):
  """Multi-head attention of query[b q c] to key and value[b n c], which may be masked; softmax in float32."""

  heads: int
  dropout: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None, train: bool):
    c = query.shape[-1]
    kernel = self.param("in_proj_kernel", nn.initializers.xavier_uniform(), (c, 3 * c), jnp.float32)
    bias = self.param("in_proj_bias", nn.initializers.zeros, (3 * c,), jnp.float32)
    kernels, biases = jnp.split(kernel.astype(self.dtype), 3, 1), jnp.split(bias.astype(self.dtype), 3)
    query, key, value = (
      (x @ kernel + bias).reshape(*x.shape[:2], self.heads, c // self.heads)
      for x, kernel, bias in zip((query, key, value), kernels, biases)
    )
    logits = jnp.einsum("bqhd,bkhd->bhqk", query * (c // self.heads) ** -0.5, key).astype(jnp.float32)
    if mask is not None:
      logits = jnp.where(mask[:, None, None], logits, jnp.finfo(jnp.float32).min)
    share = nn.Dropout(self.dropout, deterministic=not train)(nn.softmax(logits).astype(self.dtype))
    x = jnp.einsum("bhqk,bkhd->bqhd", share, value)
    return Dense(c, dtype=self.dtype, name="out_proj")(x.reshape(*x.shape[:2], c))


class Layer(nn.Module):
  """A layer of the encoder, or with `memory` of the decoder: x[b q c] to [b q c]."""

  heads: int
  hidden: int
  dropout: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    positions: jax.Array,
    mask: jax.Array | None,
    train: bool,
    memory: jax.Array | None = None,
    keys: jax.Array | None = None,
  ) -> jax.Array:
    """`mask` bool[b n] is of what is attended to from outside: x itself, or the memory, whose `keys` have positions."""
    drop = nn.Dropout(self.dropout, deterministic=not train)
    attend = partial(Attention, self.heads, self.dropout, self.dtype)
    norms = iter(LayerNorm(dtype=self.dtype, name=f"norm{i}") for i in (1, 2, 3))
    placed = x + positions
    x = next(norms)(x + drop(attend(name="self_attn")(placed, placed, x, None if memory is not None else mask, train)))
    if memory is not None:
      x = next(norms)(x + drop(attend(name="multihead_attn")(x + positions, keys, memory, mask, train)))
    y = drop(nn.relu(Dense(self.hidden, dtype=self.dtype, name="linear1")(x)))
    return next(norms)(x + drop(Dense(x.shape[-1], dtype=self.dtype, name="linear2")(y)))


class Detr(nn.Module):
  """A detector network (`models/dense.py`). `dropout` is the transformer's: 0.1 when it was trained.

  Attributes:
    depths, bottleneck, trunk_widths: of the ResNet; with `dilated` its last stage keeps its input's size (DC5).
    n_layers: of the encoder and of the decoder.
    n_classes: without the one for no object.
  """

  depths: tuple[int, ...]
  dilated: bool = False
  bottleneck: bool = True
  trunk_widths: tuple[int, ...] = (64, 128, 256, 512)
  width: int = 256
  heads: int = 8
  hidden: int = 2048
  n_layers: tuple[int, int] = (6, 6)
  n_queries: int = 100
  n_classes: int = 91
  dtype: Any = jnp.float32
  batch_norm: str = "frozen"
  dropout: float = 0.0

  def __call__(self, image: jax.Array, sizes: jax.Array, targets: Mapping[str, Any] | None, train: bool) -> dict:
    logits, boxes = self.predict(image, sizes, train)
    if train and targets is not None:
      return {"losses": detr_loss.losses(logits, boxes, sizes, targets)}
    return detections(logits[-1], boxes[-1], sizes)

  @nn.compact
  def predict(self, image: jax.Array, sizes: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    """float32 logits[l b q k+1] and boxes[l b q 4], centre and size from 0 to 1, of all l layers or the last one."""
    strides, dilations = ((1, 2, 2, 1), (1, 1, 1, 2)) if self.dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
    trunk = Trunk(
      self.depths, self.bottleneck, self.trunk_widths, strides, dilations,
      dtype=self.dtype, batch_norm=self.batch_norm, name="backbone",
    )  # fmt: skip
    x = trunk(image, train)[-1]
    mask = inside(sizes, image.shape[1:3], x.shape[1:3])
    x = nn.Conv(self.width, (1, 1), dtype=self.dtype, kernel_init=conv_init, name="input_proj")(x)
    x = self._decoded(x, mask, train)
    logits = nn.Dense(self.n_classes + 1, dtype=self.dtype, name="class_embed")(x)
    for i, n in enumerate((self.width, self.width, 4)):
      x = nn.Dense(n, dtype=self.dtype, name=f"bbox_embed_{i}")(nn.relu(x) if i else x)
    return logits.astype(jnp.float32), nn.sigmoid(x.astype(jnp.float32))

  def _decoded(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
    """dtype[l b q c] of x[b h w c] and mask bool[b h w]."""
    layer = partial(Layer, self.heads, self.hidden, self.dropout, self.dtype)
    place = sine_positions(mask, self.width).reshape(x.shape[0], -1, self.width).astype(self.dtype)
    x, mask = x.reshape(*place.shape), mask.reshape(place.shape[:2])
    for i in range(self.n_layers[0]):
      x = layer(name=f"encoder_{i}")(x, place, mask, train)
    queries = self.param("query_embed", nn.initializers.normal(1.0), (self.n_queries, self.width), jnp.float32)
    queries = jnp.broadcast_to(queries.astype(self.dtype), (x.shape[0], *queries.shape))
    y, memory, keys, found = jnp.zeros_like(queries), x, x + place, []
    for i in range(self.n_layers[1]):
      y = layer(name=f"decoder_{i}")(y, queries, mask, train, memory, keys)
      found.append(y)
    norm = LayerNorm(dtype=self.dtype, name="decoder_norm")
    return norm(jnp.stack(found if train else found[-1:]))


def inside(sizes: jax.Array, image: tuple[int, int], feature: tuple[int, int]) -> jax.Array:
  """bool[b h w]: which positions of a map lie in the picture, by the pixel that nearest interpolation takes."""
  rows, columns = (jnp.arange(m, dtype=jnp.int32) * n // m for n, m in zip(image, feature))
  return (rows[None, :, None] < sizes[:, :1, None]) & (columns[None, None] < sizes[:, 1:, None])


def sine_positions(mask: jax.Array, width: int, temperature: float = 10000.0) -> jax.Array:
  """float32[b h w width]: sines and cosines of the row, then of the column, counted within the picture up to 2π."""

  def waves(axis: int) -> jax.Array:
    count = jnp.cumsum(mask.astype(jnp.float32), axis)
    last = jax.lax.slice_in_dim(count, count.shape[axis] - 1, None, axis=axis)
    angle = 2 * jnp.pi * count / (last + 1e-6)
    period = jnp.float32(temperature) ** (jnp.arange(0, width // 2, 2, dtype=jnp.float32) / (width // 2))
    angle = angle[..., None] / period
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*mask.shape, width // 2)

  return jnp.concatenate([waves(1), waves(2)], -1)


def detections(logits: jax.Array, boxes: jax.Array, sizes: jax.Array) -> dict[str, jax.Array]:
  """Every query's best class: logits[b q k+1] and relative boxes[b q 4] to what a detector returns."""
  shares = nn.softmax(logits)[..., :-1]
  scores, order = jax.lax.top_k(shares.max(-1), shares.shape[1])
  labels = jnp.take_along_axis(shares.argmax(-1).astype(jnp.int32), order, 1)
  height, width = (sizes[:, i, None].astype(jnp.float32) for i in (0, 1))
  corners = geometry.from_centres(boxes) * jnp.stack([width, height, width, height], -1)
  corners = jnp.take_along_axis(geometry.clip(corners, height, width), order[..., None], 1)
  return {"boxes": corners, "scores": scores, "labels": labels}


detr_resnet50 = partial(Detr, (3, 4, 6, 3))
detr_resnet101 = partial(Detr, (3, 4, 23, 3))
detr_resnet101_dc5 = partial(Detr, (3, 4, 23, 3), True)

RULES, READING = detr_names.RULES, detr_names.READING
