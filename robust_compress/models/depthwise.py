"""The two halves of a separable convolution, fast on a CPU too: depthwise and pointwise.

    y[b i j c] = Σ_uv x[b i·s+u j·s+v c] · kernel[u v c]        y[b i j o] = Σ_c x[b i j c] · kernel[c o]

XLA's own depthwise convolution (one with as many groups as channels) is right for GPU and TPU. On CPU it runs through
a generic loop, and its gradients more so; there the same sum is written out: k² shifted products forward and for the
gradient of x, and for the kernel's gradient a scan over output rows, whose partial sums stay in the cache. The
pointwise half is a matrix product over all positions: as a 1×1 convolution its kernel's gradient takes up to five
times as long on CPU.

Milliseconds on 2 CPU cores, jax 0.10, 16 pictures (forward, gradient of x, gradient of the kernel):

    112×112×32  k=3 s=1    XLA 243  201  200    here  21  14  25
    112×112×96  k=3 s=2    XLA 253 2055  551    here  95  35  78
    56×56×144   k=3 s=1    XLA 302  376  758    here  18   7  20
    14×14×384   k=3 s=1    XLA  55   36  124    here   2   1   4
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from robust_compress.models.layers import conv_init

Pads = tuple[tuple[int, int], tuple[int, int]]
_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # fan_out would count channels that do not mix


class DepthwiseConv(nn.Module):
  """A filter of size×size a channel: float[b h w c] to dtype[b h/stride w/stride c].

  The parameter 'kernel' is [size size 1 c], laid out as nn.Conv with feature_group_count=c has it.
  `padding`: 'torch' is size//2 on every side, 'SAME' TensorFlow's, which is lopsided where the stride is 2.
  """

  size: int
  stride: int = 1
  padding: str = "torch"
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    kernel = self.param("kernel", _init, (self.size, self.size, 1, width), jnp.float32)
    pads = ((self.size // 2, self.size // 2),) * 2
    if self.padding == "SAME":
      pads = tuple(lax.padtype_to_pads(x.shape[1:3], (self.size,) * 2, (self.stride,) * 2, "SAME"))
    x = depthwise(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, pads)
    if self.use_bias:
      x = x + self.param("bias", nn.initializers.zeros, (width,), jnp.float32).astype(self.dtype)
    return x


class PointwiseConv(nn.Module):
  """A 1×1 convolution: float[b h w c] to dtype[b h w width]. The kernel is [1 1 c width], as nn.Conv has it."""

  width: int
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", conv_init, (1, 1, x.shape[-1], self.width), jnp.float32)
    y = x.astype(self.dtype).reshape(-1, x.shape[-1]) @ kernel[0, 0].astype(self.dtype)
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32).astype(self.dtype)
    return y.reshape(*x.shape[:-1], self.width)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
  """x[b h w c] filtered by kernel[k k 1 c] of the same type, summed in float32."""
  return lax.platform_dependent(
    x, kernel, cpu=partial(_by_taps, stride=stride, pads=pads), default=partial(_by_xla, stride=stride, pads=pads)
  )


def _forward(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> tuple[jax.Array, tuple]:
  return depthwise(x, kernel, stride, pads), (x, kernel)


def _backward(stride: int, pads: Pads, saved: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
  def by_xla(x, kernel, grad):
    return jax.vjp(lambda x, kernel: _by_xla(x, kernel, stride, pads), x, kernel)[1](grad)

  def by_taps(x, kernel, grad):
    (grad_x,) = jax.vjp(lambda x: _by_taps(x, kernel, stride, pads), x)[1](grad)
    return grad_x, _kernel_gradient(x, grad, kernel.shape[0], stride, pads).astype(kernel.dtype)

  return lax.platform_dependent(*saved, grad, cpu=by_taps, default=by_xla)


depthwise.defvjp(_forward, _backward)


def _by_xla(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
  layout, groups = ("NHWC", "HWIO", "NHWC"), x.shape[-1]
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
  )


def _by_taps(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
  padded, size = jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.shape[0]
  height, width = ((n - size) // stride + 1 for n in padded.shape[1:3])
  total = jnp.zeros((), jnp.float32)
  for u, v, shifted in _taps(padded, (height, width), size, stride):
    total = total + shifted.astype(jnp.float32) * kernel[u, v, 0].astype(jnp.float32)
  return total.astype(x.dtype)


def _kernel_gradient(x: jax.Array, grad: jax.Array, size: int, stride: int, pads: Pads) -> jax.Array:
  """Σ_bij x[b i·s+u j·s+v c] · grad[b i j c], as float32[size size 1 c].

  One output row a step, summed over i with b, j and c apart: XLA's reductions over all axes but the last are slow.
  """
  padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  batch, height, width, channels = grad.shape

  def add_row(sums: tuple[jax.Array, ...], i: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    rows = lax.dynamic_slice_in_dim(padded, i * stride, size, axis=1)
    row = lax.dynamic_slice_in_dim(grad, i, 1, axis=1).astype(jnp.float32)
    taps = _taps(rows, (1, width), size, stride)
    return tuple(total + shifted.astype(jnp.float32) * row for total, (_, _, shifted) in zip(sums, taps)), None

  zeros = (jnp.zeros((batch, 1, width, channels), jnp.float32),) * size**2
  sums, _ = lax.scan(add_row, zeros, jnp.arange(height))
  return jnp.stack([total.sum((0, 1, 2)) for total in sums]).reshape(size, size, 1, channels)


def _taps(padded: jax.Array, out: tuple[int, int], size: int, stride: int) -> Iterator[tuple[int, int, jax.Array]]:
  """(u, v, what the weight at u, v is multiplied with), each [b out_h out_w c]."""
  batch, channels = padded.shape[0], padded.shape[-1]
  for u in range(size):
    for v in range(size):
      stop = (batch, u + (out[0] - 1) * stride + 1, v + (out[1] - 1) * stride + 1, channels)
      yield u, v, lax.slice(padded, (0, u, v, 0), stop, (1, stride, stride, 1))
