"""Layers that the architectures share: convolution, norms, stochastic depth, the transformer's MLP.

Every module computes in `dtype` and keeps its parameters and statistics in float32, so nothing is promoted silently.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from robust_compress import winograd

BATCH_AXIS = "batch"  # the mesh axis that a training step is mapped over
BATCH_NORM_MODES = ("sync", "local", "frozen")

conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
dense_init = nn.initializers.truncated_normal(0.02)


def _convolve(x: jax.Array, kernel: jax.Array, strides: Any, pads: Any, **options: Any) -> jax.Array:
  """As nn.Conv calls it. What is 3×3, of stride one and padded by one goes by `winograd.py`, where that pays."""
  plain = partial(lax.conv_general_dilated, window_strides=strides, padding=pads, **options)
  dilations = {*options["lhs_dilation"], *options["rhs_dilation"]}
  is_plain = {*strides, *dilations, options["feature_group_count"]} == {1} and list(pads) == [(1, 1), (1, 1)]
  if not is_plain or kernel.shape[:2] != (3, 3):
    return plain(x, kernel)
  return winograd.where_it_pays(winograd.convolve, plain, x, kernel)


Conv = partial(nn.Conv, conv_general_dilated_cls=lambda: _convolve)  # nn.Conv, faster where it is 3×3, large and wide


class BatchNorm(nn.Module):
  """Batch normalisation with PyTorch's conventions, in one of three modes of training.

  `sync`: moments over the global batch, by collectives over axis 'batch', which must be mapped. `local`: over this
  device's part. `frozen`: the running statistics are used and kept, while scale and bias still learn. As in PyTorch,
  running ← (1 − momentum)·running + momentum·batch, with the unbiased variance; the output uses the biased one.
  """

  mode: str = "local"
  momentum: float = 0.1
  epsilon: float = 1e-5
  dtype: Any = jnp.float32
  scale_init: nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """float[… c] to dtype[… c], normalised over all axes but the last."""
    if self.mode not in BATCH_NORM_MODES:
      raise ValueError(f"batch_norm={self.mode!r}; expected one of {', '.join(BATCH_NORM_MODES)}")
    shape = x.shape[-1:]
    scale = self.param("scale", self.scale_init, shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    x = x.astype(jnp.float32)
    if train and self.mode != "frozen" and not self.is_initializing():
      batch_mean, batch_var, n = self._moments(x)
      mean.value += self.momentum * (batch_mean - mean.value)
      var.value += self.momentum * (batch_var * (n / max(n - 1, 1)) - var.value)
    else:
      batch_mean, batch_var = mean.value, var.value
    gain = scale * jax.lax.rsqrt(batch_var + self.epsilon)
    return ((x - batch_mean) * gain + bias).astype(self.dtype)

  def _moments(self, x: jax.Array) -> tuple[jax.Array, jax.Array, int]:
    """Mean and biased variance in two passes, which keeps small variances exact, and the number of elements."""
    axes = tuple(range(x.ndim - 1))
    sync = self.mode == "sync"
    average = (lambda value: jax.lax.pmean(value, BATCH_AXIS)) if sync else (lambda value: value)
    mean = average(x.mean(axes))
    var = average(jnp.square(x - mean).mean(axes))
    return mean, var, x.size // x.shape[-1] * (jax.lax.axis_size(BATCH_AXIS) if sync else 1)


class LayerNorm(nn.Module):
  """Normalisation over the last axis, in float32 whatever `dtype` is: float[… c] to dtype[… c]."""

  epsilon: float = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon)
    return (x * scale + bias).astype(self.dtype)


class StochasticDepth(nn.Module):
  """Drops a residual branch, example by example, with probability `rate` while training; scales what stays.

  As in Huang et al. 2016 (arXiv:1603.09382) and timm's DropPath. Uses the rng stream 'dropout'.
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if not train or self.rate == 0:
      return x
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
    return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))


def depth_rates(dropout: float, depth: int) -> list[float]:
  """Rates of stochastic depth for `depth` blocks, rising linearly from 0 to `dropout`."""
  return [dropout * i / max(depth - 1, 1) for i in range(depth)]


class Mlp(nn.Module):
  """The transformer's two-layer perceptron with exact GELU: x[… c] ──fc1──▶ GELU ──fc2──▶ [… c]."""

  hidden: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=dense_init)
    return dense(x.shape[-1], name="fc2")(nn.gelu(dense(self.hidden, name="fc1")(x), approximate=False))
