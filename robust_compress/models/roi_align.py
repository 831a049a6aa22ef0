"""RoIAlign (He et al. 2017, arXiv:1703.06870) over a feature pyramid, each region from the map that suits its size.

    maps ──flatten, one after another──▶ [b s c] ──a grid of corners a region, from its own map──▶ [b n k k c]

A region of k×k bins has `samples`² points a bin, each interpolated between four places. Interpolation is separable: a
region needs the places where 2·k·samples rows cross as many columns, weighted by row and by column. Regions go in
chunks, so that memory does not grow with their number, and no map is read for a region of another.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 128  # regions at a time: 100 MB of 256 channels


class _Grid(NamedTuple):
  """Where regions look, and how much each place counts for a bin."""

  rows: jax.Array  # int32[n r], where in the flattened maps a row begins
  columns: jax.Array  # int32[n r]
  row_weights: jax.Array  # float32[n k r/k]
  column_weights: jax.Array


def roi_align(
  maps: list[jax.Array],
  boxes: jax.Array,
  strides: tuple[int, ...],
  extents: jax.Array,
  size: int = 7,
  samples: int = 2,
) -> jax.Array:
  """Features float32[b n size size c] of boxes[b n 4], torchvision's MultiScaleRoIAlign with aligned=False.

  Args:
    maps: [float[b h w c], …], each of twice the stride of the one before.
    strides: of the maps, in pixels.
    extents: int32[b l 2], rows and columns of each map that belong to the picture; nothing is read beyond.
  """
  channels = maps[0].shape[-1]
  flat = jnp.concatenate([x.reshape(x.shape[0], -1, channels) for x in maps], 1)
  starts = np.cumsum([0] + [x.shape[1] * x.shape[2] for x in maps[:-1]]).astype(np.int32)
  level = levels(boxes, strides)
  extent = jnp.take_along_axis(extents, level[..., None], 1)  # [b n 2]
  scaled = boxes / jnp.asarray(strides, jnp.float32)[level][..., None]
  y, wy = _axis(scaled[..., 1], scaled[..., 3], extent[..., 0], size, samples)
  x, wx = _axis(scaled[..., 0], scaled[..., 2], extent[..., 1], size, samples)
  pitch = jnp.asarray([x.shape[2] for x in maps], jnp.int32)[level]
  start = jnp.asarray(starts)[level] + flat.shape[1] * jnp.arange(len(flat), dtype=jnp.int32)[:, None]
  grid = _Grid(start[..., None] + y * pitch[..., None], x, wy, wx)
  grid = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), grid)
  return _pooled(flat.reshape(-1, channels), grid).reshape(*boxes.shape[:2], size, size, channels)


def levels(boxes: jax.Array, strides: tuple[int, ...]) -> jax.Array:
  """Which map is for each of boxes[...]: int32, by the pyramid's rule that 224 pixels belong to stride 16."""
  first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
  side = jnp.sqrt((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
  exact = jnp.floor(4 + jnp.log2(side / 224) + jnp.float32(1e-6))  # the sum is torchvision's, rounding included
  return (jnp.clip(exact, first, last) - first).astype(jnp.int32)


def _axis(low: jax.Array, high: jax.Array, n: jax.Array, size: int, samples: int) -> tuple[jax.Array, jax.Array]:
  """Places int32[… size·samples·2] along one axis of n places, and their weights float32[… size samples·2]."""
  length = jnp.maximum(high - low, 1.0)
  fractions = (np.arange(size)[:, None] + (np.arange(samples) + 0.5) / samples) / size
  at = low[..., None, None] + length[..., None, None] * jnp.asarray(fractions, jnp.float32)
  n = n[..., None, None]
  counted = (at >= -1) & (at <= n.astype(jnp.float32))
  at = jnp.clip(at, 0.0, (n - 1).astype(jnp.float32))
  before = jnp.floor(at).astype(jnp.int32)
  after = jnp.minimum(before + 1, n - 1)
  part = at - before.astype(jnp.float32)
  weights = jnp.where(counted[..., None], jnp.stack([1 - part, part], -1), 0.0) / samples
  places = jnp.stack([before, after], -1)
  lead = low.shape
  return places.reshape(*lead, -1), weights.reshape(*lead, size, -1)


@partial(jax.custom_vjp)
def _pooled(flat: jax.Array, grid: _Grid) -> jax.Array:
  """float32[n k k c] of flat[s c]; its gradient adds each chunk to one array instead of one array a chunk."""
  return jax.lax.map(partial(_one, flat), grid, batch_size=CHUNK)


def _one(flat: jax.Array, grid: _Grid) -> jax.Array:
  """One region. Sums and no products of matrices, which a TPU would round."""
  k = grid.row_weights.shape[0]
  found = flat[grid.rows[:, None] + grid.columns].astype(jnp.float32)  # r r c
  found = found.reshape(k, -1, k, grid.column_weights.shape[1], flat.shape[1])
  weights = grid.row_weights[:, :, None, None] * grid.column_weights
  return (found * weights[..., None]).sum((1, 3))


def _forward(flat: jax.Array, grid: _Grid) -> tuple[jax.Array, tuple[jax.Array, _Grid]]:
  return _pooled(flat, grid), (flat, grid)


def _backward(kept: tuple[jax.Array, _Grid], grad: jax.Array) -> tuple[jax.Array, None]:
  flat, grid = kept
  chunk = min(CHUNK, len(grad))
  padding = -len(grad) % chunk  # regions of weight zero at place zero

  def chunked(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, padding), *((0, 0),) * (x.ndim - 1))).reshape(-1, chunk, *x.shape[1:])

  def step(total: jax.Array, some: tuple[_Grid, jax.Array]) -> tuple[jax.Array, None]:
    grid, grad = some
    weights = grid.row_weights[:, :, :, None, None] * grid.column_weights[:, None, None]
    places = (grid.rows[:, :, None] + grid.columns[:, None]).reshape(-1)
    spread = grad[:, :, None, :, None] * weights[..., None]
    return total.at[places].add(spread.reshape(-1, total.shape[1])), None

  total = jax.lax.scan(step, jnp.zeros(flat.shape, jnp.float32), jax.tree.map(chunked, (grid, grad)))[0]
  return total.astype(flat.dtype), None


_pooled.defvjp(_forward, _backward)
