"""Rounding, and the Gaussians that foretell what is rounded.

    y ──quantise──▶ ŷ for the decoder, ỹ for the rate       p(ỹ) = Σ_k w_k [Φ((ỹ + ½ − μ_k)/σ_k) − Φ((ỹ − ½ − μ_k)/σ_k)]

Modes of `quantise`:
    round   what is coded: whole numbers, counted from `centre`
    noise   uniform noise of the width of a bin for both, as Ballé et al. train (arXiv:1802.01436)
    ste     the decoder sees rounded numbers, whose gradient passes straight through; the rate sees noise
            (Minnen & Singh 2020, arXiv:2007.08739)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_compress import specs
from robust_compress.codecs.learned.networks.factorized import LIKELIHOOD_BOUND
from robust_compress.codecs.learned.networks.layers import lower_bound
from robust_compress.codecs.learned.tables import SCALE_BOUND

MODES = ("round", "noise", "ste")


class Gaussian(NamedTuple):
  """One a latent. Its symbols are counted from the mean: ŷ = round(y − mean) + mean."""

  means: jax.Array  # float32[b h w m]
  scales: jax.Array  # float32[b h w m], any numbers: those below SCALE_BOUND count as that

  @property
  def centre(self) -> jax.Array:
    return self.means

  def likelihood(self, values: jax.Array) -> jax.Array:
    """The probability of a symbol at each of float32[b h w m] values, at least LIKELIHOOD_BOUND."""
    return lower_bound(_mass(values, self.means, self.scales), LIKELIHOOD_BOUND)


class Mixture(NamedTuple):
  """k Gaussians a latent (Cheng et al. 2020, arXiv:2001.01568). Its symbols are whole numbers: ŷ = round(y)."""

  weights: jax.Array  # float32[b h w m k], positive, of sum 1 over k
  means: jax.Array
  scales: jax.Array

  @property
  def centre(self) -> float:
    return 0.0

  def likelihood(self, values: jax.Array) -> jax.Array:
    """As of `Gaussian`."""
    mass = (self.weights * _mass(values[..., None], self.means, self.scales)).sum(-1)
    return lower_bound(mass, LIKELIHOOD_BOUND)


def _mass(values: jax.Array, means: jax.Array, scales: jax.Array) -> jax.Array:
  """Of bins of width 1, in the lower tail, where a difference of float32 is exact."""
  scales, distance = lower_bound(scales, SCALE_BOUND), jnp.abs(values - means)
  return _phi((0.5 - distance) / scales) - _phi((-0.5 - distance) / scales)


def _phi(x: jax.Array) -> jax.Array:
  return 0.5 * jax.lax.erfc(-(0.5**0.5) * x)


def quantise(
  x: jax.Array, mode: str, centre: jax.Array | float, key: Callable[[], jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """(x̂ for the decoder, x̃ for the rate), float32 of the shape of x.

  Args:
    x: latents.
    mode: one of MODES.
    centre: what whole numbers are counted from.
    key: draws a random key, where the mode needs one.

  Raises:
    SpecError: an unknown mode.
  """
  if mode not in MODES:
    raise specs.nearest("mode of quantisation", mode, MODES)
  if mode == "round":
    rounded = round_from(x, centre)
    return rounded, rounded
  noisy = x + jax.random.uniform(key(), x.shape, x.dtype, -0.5, 0.5)
  if mode == "noise":
    return noisy, noisy
  return x + jax.lax.stop_gradient(round_from(x, centre) - x), noisy


def round_from(x: jax.Array, centre: jax.Array | float) -> jax.Array:
  """The nearest of the numbers a whole step away from `centre`; ties go to the even step."""
  return jnp.round(x - centre) + centre
