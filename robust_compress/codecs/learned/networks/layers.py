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

from robust_compress.codecs.learned.networks.convolution import convolve, transpose

kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default
leaky_relu = partial(nn.leaky_relu, negative_slope=0.01)
PEDESTAL = 2.0**-36  # GDN keeps √(p + PEDESTAL), whose gradient stays finite at p = 0
Activation = Callable[[jax.Array], jax.Array]
_LARGE, _STRIP_ROWS = 1 << 22, 16  # numbers of a picture from which it is worth it, and rows of a strip


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
    return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride) + bias.astype(self.dtype)


class Deconv(nn.Module):
  """The transpose of a 5×5 convolution of stride two, with bias: float[b h w c] to dtype[b 2h 2w width]."""

  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("transposed", kernel_init, (5, 5, x.shape[-1], self.width), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
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


def _beta_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.full(shape, (1 + PEDESTAL) ** 0.5, dtype)


def _gamma_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.sqrt(0.1 * jnp.eye(shape[0], dtype=dtype) + PEDESTAL)
