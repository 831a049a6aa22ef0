"""mbt2018: mean-scale hyperprior and autoregressive context (Minnen et al. 2018, arXiv:1809.02736).

    z ──round──▶ ẑ ──h_s──▶ features ──────────────┐
                                                   ├──entropy_parameters──▶ scales and means of ŷ at one position
    ŷ at the 12 positions before it ──masked 5×5───┘

         · · · · ·         what a position knows: the two rows above and the two to its left, so that a decoder
         · · · · ·         goes row by row, or all positions of j + 3i = t at once
         · · ×

`__call__` foretells every position in one pass from y rounded without its means, as CompressAI's forward does: close to
what is coded, where ŷ = round(y − mean) + mean and each mean hangs on the ŷ before it. A codec goes position by
position: `begun` does what needs no ŷ, and `prior_at` takes the neighbours of any set of positions.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.codecs.learned.networks.convolution import direct
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture, round_from
from robust_compress.codecs.learned.networks.hyperprior import MeanScaleHyperprior
from robust_compress.codecs.learned.networks.layers import Pointwise, kernel_init, leaky_relu

SIZE = 5
NEIGHBOURS = tuple((i, j) for i in range(-2, 1) for j in range(-2, 3) if (i, j) < (0, 0))  # rows and columns from ×


class MaskedConv(nn.Module):
  """A 5×5 convolution that sees only `NEIGHBOURS`: float[b h w m] to dtype[b h w width].

  The kernel is [5 5 m width], as CompressAI has it; what lies under the mask is not used.
  """

  m: int
  width: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    self.kernel = self.param("kernel", kernel_init, (SIZE, SIZE, self.m, self.width), self.param_dtype)
    self.bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)

  def __call__(self, y_hat: jax.Array) -> jax.Array:
    kernel = jnp.asarray(self.kernel[:3], self.dtype).at[2, 2:].set(0)
    return direct(y_hat.astype(self.dtype), kernel, 1, ((2, 0), (2, 2))) + self.bias.astype(self.dtype)

  def at(self, neighbours: jax.Array) -> jax.Array:
    """float[… 12 m], ŷ in the order of `NEIGHBOURS` with zeros outside the picture, to dtype[… width]."""
    kernel = self.kernel.reshape(SIZE**2, self.m, self.width)[: len(NEIGHBOURS)].astype(self.dtype)
    flat = neighbours.astype(self.dtype).reshape(*neighbours.shape[:-2], -1)
    return flat @ kernel.reshape(-1, self.width) + self.bias.astype(self.dtype)


class ContextModel(MeanScaleHyperprior):
  """mbt2018."""

  def setup(self) -> None:
    super().setup()
    self.context_prediction = MaskedConv(self.m, 2 * self.m, **self.types)
    first, *rest = self.parameter_widths()
    layers = [layer for width in rest for layer in (leaky_relu, Pointwise(width, **self.types))]
    self.entropy_parameters = nn.Sequential([Pointwise(first, **self.types), *layers])

  def parameter_widths(self) -> tuple[int, ...]:
    """Of the network from features and context to the parameters of the prior."""
    return self.m * 10 // 3, self.m * 8 // 3, self.m * 2

  def context(self, y_hat: jax.Array) -> jax.Array:
    """ŷ[b h w m] to float[b h w 2m], at each position of those before it alone."""
    return self.context_prediction(y_hat)

  def prior(self, features: jax.Array, context: jax.Array) -> Gaussian | Mixture:
    """Features[… 2m] of `hyper_synthesis` and context[… 2m] to the Gaussians of y at those positions."""
    joint = jnp.concatenate([features.astype(self.dtype), context.astype(self.dtype)], axis=-1)
    return self.as_prior(self.entropy_parameters(joint).astype(jnp.float32))

  def as_prior(self, parameters: jax.Array) -> Gaussian | Mixture:
    """What `entropy_parameters` gave, by its meaning."""
    scales, means = jnp.split(parameters, 2, axis=-1)
    return Gaussian(means, scales)

  def begun(self, features: jax.Array) -> jax.Array:
    """What the first layer of `entropy_parameters` makes of features[… 2m] alone: float32[… width], of all positions
    in one product before a codec goes from one to the next."""
    kernel, bias = self._first_layer()
    return (features.astype(self.dtype) @ kernel[: 2 * self.m] + bias).astype(jnp.float32)

  def prior_at(self, begun: jax.Array, neighbours: jax.Array) -> Gaussian | Mixture:
    """`begun` and ŷ[… 12 m] at the `NEIGHBOURS` of some positions, zeros outside, to the Gaussians there."""
    x = begun.astype(self.dtype) + self.context_prediction.at(neighbours) @ self._first_layer()[0][2 * self.m :]
    for layer in self.entropy_parameters.layers[1:]:
      x = layer(x)
    return self.as_prior(x.astype(jnp.float32))

  def _first_layer(self) -> tuple[jax.Array, jax.Array]:
    """(kernel[4m width], bias) of `entropy_parameters`: features come first, then context."""
    layer = self.entropy_parameters.layers[0]
    kernel, bias = (layer.get_variable("params", name) for name in ("kernel", "bias"))
    return kernel[0, 0].astype(self.dtype), bias.astype(self.dtype)

  def _foretell(self, y: jax.Array, features: jax.Array, mode: str) -> tuple[jax.Array, jax.Array, Gaussian | Mixture]:
    y_hat, y_rate = self.quantise(y, mode, 0.0)
    prior = self.prior(features, self.context(y_hat))
    return y_hat, round_from(y, prior.centre) if mode == "round" else y_rate, prior
