"""The first convolution of a network: three channels in, stride two.

Three channels fill no vector unit. Cutting the picture into 2×2 blocks makes them twelve at half the side, and the same
sums become a convolution of stride one: [32 160 160 3] by 24 kernels of 5×5 took 125 ms of one core as it stands, 15 ms
this way (jax 0.10 on a CPU); TPUs gain likewise.

x[b h w c] ──pad──▶ 2×2 blocks [b h/2 w/2 4c] ──conv (k+1)/2 × (k+1)/2──▶ [b h/2 w/2 width]
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from robust_compress.models.layers import conv_init


class StemConv(nn.Module):
  """nn.Conv(width, (size, size), 2, padding=pad) for an odd size: its parameters and, but for rounding, its result.

  float[b h w c] to dtype[b h' w' width].
  """

  width: int
  size: int
  pad: int
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", conv_init, (self.size, self.size, x.shape[-1], self.width), jnp.float32)
    y = lax.conv_general_dilated(
      _blocks(self._padded(x.astype(self.dtype))),
      _block_kernel(kernel.astype(self.dtype)),
      window_strides=(1, 1),
      padding="VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32).astype(self.dtype)
    return y

  def _padded(self, x: jax.Array) -> jax.Array:
    """Exactly what the windows of size + 1 reach; a negative padding cuts a row that none does."""
    ends = []
    for n in x.shape[1:3]:
      n_out = (n + 2 * self.pad - self.size) // 2 + 1
      ends.append(2 * n_out + self.size - 1 - n - self.pad)
    edges = ((0, 0, 0), (self.pad, ends[0], 0), (self.pad, ends[1], 0), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _blocks(x: jax.Array) -> jax.Array:
  """[b 2h 2w c] to [b h w 4c]."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def _block_kernel(kernel: jax.Array) -> jax.Array:
  """[k k c o], k odd, to the kernel [(k+1)/2 (k+1)/2 4c o] over blocks; the tap added at the end is zero."""
  size, _, c, o = kernel.shape
  half = (size + 1) // 2
  kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
  return kernel.reshape(half, 2, half, 2, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(half, half, 4 * c, o)
