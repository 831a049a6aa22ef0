"""Gain units: one network, many rates (Cui et al. 2021, arXiv:2003.02177).

    y ──× exp(log_gain[level])──▶ rounded and coded ──× exp(log_inverse[level])──▶ to the synthesis

Each channel has a gain and an inverse of its own at every level; the larger the gain, the finer y is rounded. Between
levels both are interpolated geometrically, so that levels are real numbers from 0 to `levels` − 1.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

STEP = 0.33  # log of the gain from level to level at the start: √ of the factor between published λ


class Gain(nn.Module):
  """Scales latents float32[b h w width] by level float32[b], and back."""

  levels: int
  width: int
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    shape = (self.levels, self.width)
    self.log_gain = self.param("log_gain", _ladder, shape, self.param_dtype)
    self.log_inverse = self.param("log_inverse", lambda *of: -_ladder(*of), shape, self.param_dtype)

  def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:
    return x * jnp.exp(_between(self.log_gain, level))[:, None, None]

  def undone(self, x: jax.Array, level: jax.Array) -> jax.Array:
    """What was given to this unit, where `inverse` is only near to it: that one is learned."""
    return x * jnp.exp(-_between(self.log_gain, level))[:, None, None]

  def inverse(self, x: jax.Array, level: jax.Array) -> jax.Array:
    return x * jnp.exp(_between(self.log_inverse, level))[:, None, None]


def _between(rows: jax.Array, level: jax.Array) -> jax.Array:
  """[levels c] at real-valued rows [b], interpolated: [b c]. Beyond the ends, the ends."""
  rows = jnp.asarray(rows, jnp.float32)
  level = jnp.clip(jnp.asarray(level, jnp.float32), 0, rows.shape[0] - 1)
  below = jnp.minimum(jnp.floor(level).astype(jnp.int32), max(rows.shape[0] - 2, 0))
  above = jnp.minimum(below + 1, rows.shape[0] - 1)
  share = (level - below.astype(jnp.float32))[:, None]
  return (1 - share) * rows[below] + share * rows[above]


def _ladder(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
  """Equal steps from level to level, the same for all channels, about a gain of 1."""
  steps = jnp.arange(shape[0], dtype=dtype) - (shape[0] - 1) / 2
  return jnp.broadcast_to(STEP * steps[:, None], shape)
