"""The factorised prior: a distribution a channel, learned as a small monotone network (Ballé et al. 2018, app. 6.1).

    value ─┬─ − ½ ─▶ logits ─▶ sigmoid ─┐
           └─ + ½ ─▶ logits ─▶ sigmoid ─┴─▶ difference = the probability of the symbol at `value`

    logits: five layers u ← softplus(H)·u + b,  then u ← u + tanh(a)·tanh(u) after all but the last

The network runs where gradients are wanted. What a coder needs to know is computed from its parameters on the host in
float64, so that it does not depend on the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from robust_compress.codecs.learned.networks.layers import lower_bound
from robust_compress.types import WeightsError

WIDTHS = (1, 3, 3, 3, 3, 1)
LIKELIHOOD_BOUND = 1e-9
TAIL_MASS = 1e-9  # outside the outer quantiles
MAX_SYMBOLS = 1 << 15  # of one channel; more cannot have a code of 16 bits each
_INIT_SCALE = 10.0
_TARGETS = (-float(np.log(2 / TAIL_MASS - 1)), 0.0, float(np.log(2 / TAIL_MASS - 1)))  # logits at the quantiles


class EntropyBottleneck(nn.Module):
  """Independent distributions of `width` channels.

  Parameters: 'matrix0'…'matrix4', 'bias0'…, 'factor0'…'factor3', and 'quantiles'[width 1 3]: where TAIL_MASS/2 lies
  below, the median, where TAIL_MASS/2 lies above. Only `auxiliary_loss` moves the quantiles.
  """

  width: int
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    shapes = [(self.width, after, before) for before, after in itertools.pairwise(WIDTHS)]
    scale, dtype = _INIT_SCALE ** (1 / len(shapes)), self.param_dtype
    params = {}
    for i, (_, after, _) in enumerate(shapes):
      start = nn.initializers.constant(float(np.log(np.expm1(1 / scale / after))))
      params[f"matrix{i}"] = self.param(f"matrix{i}", start, shapes[i], dtype)
      params[f"bias{i}"] = self.param(f"bias{i}", _bias_init, (self.width, after, 1), dtype)
      if i < len(shapes) - 1:
        params[f"factor{i}"] = self.param(f"factor{i}", nn.initializers.zeros, (self.width, after, 1), dtype)
    self.params = params
    self.quantiles = self.param("quantiles", _quantiles_init, (self.width, 1, 3), dtype)

  def medians(self) -> jax.Array:
    """float32[width]: symbols count from here. They learn from `auxiliary_loss` alone."""
    return jax.lax.stop_gradient(self.quantiles[:, 0, 1]).astype(jnp.float32)

  def likelihood(self, values: jax.Array) -> jax.Array:
    """float[b h w width] to the probabilities, float32, of symbols at those places; at least LIKELIHOOD_BOUND."""
    flat = jnp.moveaxis(values.astype(jnp.float32), -1, 0).reshape(self.width, 1, -1)
    lower, upper = _logits(self.params, flat - 0.5, jnp), _logits(self.params, flat + 0.5, jnp)
    sign = jax.lax.stop_gradient(jnp.where(lower + upper > 0, -1.0, 1.0))  # where sigmoid has digits to subtract
    mass = jnp.abs(nn.sigmoid(sign * upper) - nn.sigmoid(sign * lower))
    mass = jnp.moveaxis(mass.reshape(self.width, *values.shape[:-1]), 0, -1)
    return lower_bound(mass, LIKELIHOOD_BOUND)

  def auxiliary_loss(self) -> jax.Array:
    """How far the quantiles are from their targets, summed. Its gradient reaches nothing but the quantiles."""
    logits = _logits(jax.lax.stop_gradient(self.params), self.quantiles.astype(jnp.float32), jnp)
    return jnp.abs(logits - jnp.asarray(_TARGETS, jnp.float32)).sum()


class Distributions(NamedTuple):
  """What the symbols of each channel may be, as offsets from its median: the arguments of `tables.from_pmf`."""

  pmf: np.ndarray  # float64[width n], of symbols offset, offset + 1, …; what a row lacks of 1 lies outside
  lengths: np.ndarray  # int32[width], how many of them count
  offsets: np.ndarray  # int32[width]


def distributions(params: Mapping[str, Any]) -> Distributions:
  """Of the parameters of an EntropyBottleneck, between its outer quantiles. On the host, in float64.

  Raises:
    WeightsError: quantiles that are not finite, not in order, or more than MAX_SYMBOLS apart.
  """
  params = _as_float64(params)
  low, median, high = np.moveaxis(params["quantiles"][:, 0], -1, 0)
  if not (np.isfinite(params["quantiles"]).all() and (low <= median).all() and (median <= high).all()):
    raise WeightsError("quantiles of the factorised prior are not finite and in order; are the weights damaged?")
  first, last = -np.ceil(median - low), np.ceil(high - median)
  if (widest := float((last - first).max())) >= MAX_SYMBOLS:
    raise WeightsError(f"quantiles of the factorised prior are {widest:.0f} apart; expected less than {MAX_SYMBOLS}")
  symbols = first[:, None] + np.arange(int(widest) + 1)
  centres = (median[:, None] + symbols)[:, None]
  lower, upper = _logits(params, centres - 0.5, np)[:, 0], _logits(params, centres + 0.5, np)[:, 0]
  sign = np.where(lower + upper > 0, -1.0, 1.0)
  pmf = np.abs(special.expit(sign * upper) - special.expit(sign * lower))
  return Distributions(pmf, (last - first + 1).astype(np.int32), first.astype(np.int32))


def solved_quantiles(params: Mapping[str, np.ndarray]) -> np.ndarray:
  """float32[width 1 3], the quantiles to which `auxiliary_loss` leads, by bisection. On the host."""
  params = _as_float64(params)
  targets = np.broadcast_to(np.array(_TARGETS), params["quantiles"].shape)
  low, high = np.full(targets.shape, -1e5), np.full(targets.shape, 1e5)
  for _ in range(60):
    middle = (low + high) / 2
    below = _logits(params, middle, np) < targets
    low, high = np.where(below, middle, low), np.where(below, high, middle)
  return ((low + high) / 2).astype(np.float32)


def _logits(params: Mapping[str, Any], values: Any, xp: Any) -> Any:
  """[width 1 n] values to the logits of their cumulative distribution, in numpy or jax.numpy."""
  for i in range(len(WIDTHS) - 1):
    matrix = params[f"matrix{i}"]
    values = xp.logaddexp(matrix, xp.zeros_like(matrix)) @ values + params[f"bias{i}"]  # softplus
    if f"factor{i}" in params:
      values = values + xp.tanh(params[f"factor{i}"]) * xp.tanh(values)
  return values


def _as_float64(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  return {key: np.asarray(value, np.float64) for key, value in params.items()}


def _bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jax.random.uniform(key, shape, dtype, -0.5, 0.5)


def _quantiles_init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.broadcast_to(jnp.asarray((-_INIT_SCALE, 0.0, _INIT_SCALE), dtype), shape)
