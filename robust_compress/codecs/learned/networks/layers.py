"""Layers that the learned codecs share: convolutions and their transposes, sub-pixel convolution, GDN.

    Conv        [b h w c] ──k×k, padded by k//2──▶ [b h/s w/s n]
    Deconv      [b h w c] ──5×5, transposed──▶ [b 2h 2w n]
    subpixel    [b h w c] ──3×3 to 4n──shuffle──▶ [b 2h 2w n]
    GDN         y_i = x_i / √(β_i + Σ_j γ_ij x_j²), the inverse multiplies

Every module computes in `dtype` and keeps its parameters in `param_dtype`. Padding and the order of channels are
PyTorch's, so that CompressAI's weights fit; sides must be even where a stride halves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default
leaky_relu = partial(nn.leaky_relu, negative_slope=0.01)
PEDESTAL = 2.0**-36  # GDN keeps √(p + PEDESTAL), whose gradient stays finite at p = 0
Activation = Callable[[jax.Array], jax.Array]
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_LARGE, _STRIP_ROWS = 1 << 22, 16  # numbers of a picture from which it is worth it, and rows of a strip
_NARROW = 16  # channels: four times as many still fill what a processor multiplies at once


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def lower_bound(x: jax.Array, bound: float) -> jax.Array:
  """max(x, bound), whose gradient also passes below the bound where a step along it would lift x."""
  return jnp.maximum(x, bound)


def _bound_forward(x: jax.Array, bound: float) -> tuple[jax.Array, jax.Array]:
  return jnp.maximum(x, bound), x >= bound


def _bound_backward(bound: float, above: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
  return (jnp.where(above | (grad < 0), grad, jnp.zeros_like(grad)),)


lower_bound.defvjp(_bound_forward, _bound_backward)


class Conv(nn.Module):
  """A convolution with bias: float[b h w c] to dtype[b h/stride w/stride width]."""

  width: int
  size: int = 3
  stride: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", kernel_init, (self.size, self.size, x.shape[-1], self.width), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
    pads = ((self.size // 2, self.size // 2),) * 2
    return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, pads) + bias.astype(self.dtype)


class Deconv(nn.Module):
  """The transpose of a 5×5 convolution of stride two, with bias: float[b h w c] to dtype[b 2h 2w width].

  out[2p + u − 2] = Σ x[p] · transposed[u]: each of the four phases of the output is a convolution of x by every second
  tap, 3×3, 3×2, 2×3 or 2×2. Where the output is narrow, one 3×3 convolution gives all four: it reads x once.
  """

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("transposed", kernel_init, (5, 5, x.shape[-1], self.width), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
    transpose = _jointly if self.width < _NARROW else _by_phases
    return transpose(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)


class Pointwise(nn.Module):
  """A 1×1 convolution with bias over any leading axes: float[… c] to dtype[… width]."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", kernel_init, (1, 1, x.shape[-1], self.width), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
    return x.astype(self.dtype) @ kernel[0, 0].astype(self.dtype) + bias.astype(self.dtype)


class GDN(nn.Module):
  """Generalised divisive normalisation (Ballé et al. 2016, arXiv:1511.06281) or its inverse: float[… c] to dtype[… c].

  'beta' and 'gamma' hold √(β + 2⁻³⁶) and √(γ + 2⁻³⁶); the norm is summed and inverted in float32.
  """

  inverse: bool = False
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    beta = self.param("beta", _beta_init, (x.shape[-1],), self.param_dtype)
    gamma = self.param("gamma", _gamma_init, (x.shape[-1],) * 2, self.param_dtype)
    beta = jnp.square(lower_bound(beta, (1e-6 + PEDESTAL) ** 0.5)) - PEDESTAL
    gamma = jnp.square(lower_bound(gamma, PEDESTAL**0.5)) - PEDESTAL

    def normalised(x: jax.Array) -> jax.Array:
      norm = jnp.matmul(jnp.square(x), gamma.astype(self.dtype), preferred_element_type=jnp.float32)
      norm = norm + beta.astype(jnp.float32)
      return x * (jnp.sqrt(norm) if self.inverse else lax.rsqrt(norm)).astype(self.dtype)

    return _by_strips(normalised, x.astype(self.dtype))


def subpixel(width: int, **types: Any) -> nn.Sequential:
  """A 3×3 convolution whose channels become positions: [b h w c] to [b 2h 2w width]."""
  return nn.Sequential([Conv(4 * width, 3, **types), pixel_shuffle])


def pixel_shuffle(x: jax.Array) -> jax.Array:
  """[b h w 4c] to [b 2h 2w c] in PyTorch's order: the four positions of a channel lie side by side."""
  b, h, w, c = x.shape
  return x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple[tuple[int, int], tuple[int, int]]) -> jax.Array:
  return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_LAYOUT)


def _by_strips(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  """What a function of single positions makes of x[b h w c]. On a processor, of one large picture strip by strip: what
  it keeps in between then stays in the cache, which takes half the time.
  """
  rows = math.gcd(x.shape[1], _STRIP_ROWS) if x.ndim == 4 else 0
  if not rows or x.shape[0] > 1 or x.size < _LARGE:
    return function(x)

  def strips(x: jax.Array) -> jax.Array:
    return lax.map(function, x.reshape(-1, rows, *x.shape[2:])).reshape(x.shape)

  return lax.platform_dependent(x, cpu=strips, default=function)


def _by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[b h w c] through taps [5 5 c n] to [b 2h 2w n]. Phase r takes x[q + d] through tap r + 2 − 2d."""
  b, h, w, _ = x.shape
  taps = (slice(None, None, -2), (1, 1)), (slice(3, None, -2), (0, 1))  # of a phase, and how x is padded for them
  rows = [jnp.stack([convolve(x, kernel[i, j], 1, (p, q)) for j, q in taps], axis=3) for i, p in taps]
  return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, -1)


def _jointly(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """The same, of all four phases at once: padded to six, taps are numbered 2·(1 − d) + r."""
  (b, h, w, c), n = x.shape, kernel.shape[-1]
  taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(3, 2, 3, 2, c, n)[::-1, :, ::-1]
  phases = convolve(x, taps.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, c, 4 * n), 1, ((1, 1), (1, 1)))
  return phases.reshape(b, h, w, 2, 2, n).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, n)


def _beta_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.full(shape, (1 + PEDESTAL) ** 0.5, dtype)


def _gamma_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.sqrt(0.1 * jnp.eye(shape[0], dtype=dtype) + PEDESTAL)
