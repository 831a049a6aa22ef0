"""Deformable convolution, the first version (Dai et al. 2017, arXiv:1703.06211): 3×3, stride 1, one group.

    x[b h w c] ─conv 3×3─▶ offsets[b h w 18] = (dy, dx) of each of the 9 taps, row by row
        └─ at each tap: pixel + tap + offset ─bilinear, zero outside─▶ [b h w c] ─· its kernel─(+)─▶ [b h w n]

Samples are gathers of whole channel vectors, one tap after the other: all nine, and what their gradient keeps, would be
many times the size of x. The order of offsets is that of MMCV and torchvision.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

TAPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


class DeformableConv(nn.Module):
  """float[b h w c] to dtype[b h w width], without bias; with offsets of zero, as at first, a plain convolution."""

  width: int
  dtype: Any = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.01)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    # Offsets are positions in pixels, which bfloat16 would round to eighths and coarser: float32 whatever dtype is.
    conv = nn.Conv(2 * len(TAPS), (3, 3), padding=1, kernel_init=nn.initializers.zeros, name="conv_offset")
    offsets = conv(x.astype(jnp.float32))
    kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.width), jnp.float32)
    return deformable_conv(x.astype(self.dtype), offsets, kernel)


def deformable_conv(x: jax.Array, offsets: jax.Array, kernel: jax.Array) -> jax.Array:
  """x dtype[b h w c] sampled where offsets float32[b h w 18] lead, by kernel float32[3 3 c n], to dtype[b h w n]."""
  b, h, w, c = x.shape
  rows, columns = jnp.arange(h, dtype=jnp.float32)[:, None], jnp.arange(w, dtype=jnp.float32)

  @jax.checkpoint  # the gradient gathers again
  def add(total: jax.Array, tap: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    moved, at, weight = tap
    sample = bilinear(x, rows + moved[0] + at[..., 0], columns + moved[1] + at[..., 1]).astype(x.dtype)
    return total + jnp.matmul(sample, weight, preferred_element_type=jnp.float32), None

  taps = jnp.asarray(TAPS, jnp.float32)
  offsets = jnp.moveaxis(offsets.reshape(b, h, w, len(TAPS), 2), 3, 0)
  kernel = kernel.reshape(len(TAPS), c, -1).astype(x.dtype)
  zero = jnp.zeros((b, h, w, kernel.shape[-1]), jnp.float32)
  return jax.lax.scan(add, zero, (taps, offsets, kernel))[0].astype(x.dtype)


def bilinear(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """x[b h w c] at positions float32[b …], to float32[b … c]: interpolated among the four pixels around, zero outside.

  Positions a whole pixel outside have neither value nor gradient; at whole pixels the gradient is that to the right
  and below. Both as in MMCV's kernels.
  """
  b, h, w, c = x.shape
  table = x.reshape(b, h * w, c)
  visible = (rows > -1) & (rows < h) & (columns > -1) & (columns < w)
  rows, columns = jnp.clip(rows, -1, h), jnp.clip(columns, -1, w)  # what is far outside would not fit an integer
  top, left = (jnp.floor(at).astype(jnp.int32) for at in (rows, columns))
  below, right = rows - top.astype(jnp.float32), columns - left.astype(jnp.float32)
  total = jnp.zeros((), jnp.float32)
  for row, part_y in ((top, 1 - below), (top + 1, below)):
    for column, part_x in ((left, 1 - right), (left + 1, right)):
      inside = visible & (row >= 0) & (row < h) & (column >= 0) & (column < w)
      index = jnp.where(inside, row * w + column, 0)
      found = jax.vmap(lambda table, index: table[index])(table, index).astype(jnp.float32)
      total = total + jnp.where(inside, part_y * part_x, 0.0)[..., None] * found
  return total
