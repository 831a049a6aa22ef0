"""The factorised prior, the scale hyperprior and the mean-scale hyperprior.

bmshj2018-factorized   Ballé et al. 2018 (arXiv:1802.01436)

    x ──g_a──▶ y ──round──▶ ŷ ──g_s──▶ x̂             ŷ coded by the factorised prior of its channel

bmshj2018-hyperprior   the same paper; mbt2018-mean: Minnen et al. 2018 (arXiv:1809.02736)

    x ──g_a──▶ y ──round──────────────────▶ ŷ ──g_s──▶ x̂
               └─h_a──▶ z ──round──▶ ẑ ──h_s──▶ scales and means of the Gaussians that code ŷ; ẑ by the factorised prior

    g_a  [b h w 3] ─5×5 /2─GDN─5×5 /2─GDN─5×5 /2─GDN─5×5 /2─▶ y[b h/16 w/16 m]        g_s  its mirror image
    h_a  y ─3×3─·─5×5 /2─·─5×5 /2─▶ z[b h/64 w/64 n]             h_s  its mirror image, to m or 2m channels

Each network takes pictures whose sides are multiples of its `stride`. `__call__` is what training needs; a codec calls
the parts, which are methods: `apply(variables, x, method="analysis")`. With `levels`, latents pass gain units
(`gain.py`) on leaving g_a and h_a and on entering all others, and what h_s foretells of y is gained as y was; those
four take the level of each picture. So no transform sees which level it is, and what one learns holds for all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.codecs.learned.networks.factorized import EntropyBottleneck
from robust_compress.codecs.learned.networks.gain import Gain
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture, quantise
from robust_compress.codecs.learned.networks.layers import GDN, Activation, Conv, Deconv, leaky_relu
from robust_compress.types import SpecError


class Coding(NamedTuple):
  """A picture's way through a network."""

  x_hat: jax.Array  # float32[b h w 3], about 0…1, not clipped
  likelihoods: dict[str, jax.Array]  # 'y' and, with a hyperprior, 'z': probabilities of the symbols
  latents: dict[str, jax.Array]  # 'y', 'y_hat', 'z', 'z_hat'
  prior: Gaussian | Mixture | None  # of y; None: the factorised one

  def bits(self) -> jax.Array:
    """float32[b], what an ideal coder would spend on each picture."""
    return -sum(jnp.log2(p).sum((1, 2, 3)) for p in self.likelihoods.values())


class Autoencoder(nn.Module):
  """The part that all have: pictures to latents and back. Subclasses of other transforms replace `transforms`.

  Attributes:
    n: channels of the transforms and of z.
    m: channels of y.
    dtype: of the transforms. Latents, priors and reconstructions are float32 in any case.
    param_dtype: of the parameters.
    levels: of the gain units; 0, as published: none, and no level is taken.
  """

  n: int
  m: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  levels: int = 0

  stride: ClassVar[int] = 16  # sides of pictures must be multiples
  reach: ClassVar[int] = 2  # how far around a position g_a and g_s see, in positions of y
  hyper_reach: ClassVar[int] = 2  # and h_a and h_s, in positions of z

  @property
  def types(self) -> dict[str, Any]:
    return {"dtype": self.dtype, "param_dtype": self.param_dtype}

  def setup(self) -> None:
    self.g_a, self.g_s = self.transforms()
    self.gain_y = Gain(self.levels, self.m, self.param_dtype)
    self.entropy_bottleneck = EntropyBottleneck(self.m, self.param_dtype)

  def transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    """(g_a, g_s)."""
    conv, deconv = partial(Conv, size=5, stride=2, **self.types), partial(Deconv, **self.types)
    gdn, igdn = partial(GDN, **self.types), partial(GDN, inverse=True, **self.types)
    n, m = self.n, self.m
    down = [conv(n), gdn(), conv(n), gdn(), conv(n), gdn(), conv(m)]
    up = [deconv(n), igdn(), deconv(n), igdn(), deconv(n), igdn(), deconv(3)]
    return nn.Sequential(down), nn.Sequential(up)

  def analysis(self, x: jax.Array, level: jax.Array | None = None) -> jax.Array:
    """float[b h w 3] in 0…1 to latents y, float32[b h/16 w/16 m]. `level`: float32[b], where there are levels."""
    y = self.g_a(x.astype(self.dtype)).astype(jnp.float32)
    return self.gain_y(y, level) if self._has(level) else y

  def synthesis(self, y_hat: jax.Array, level: jax.Array | None = None) -> jax.Array:
    """float[b h/16 w/16 m] to float32[b h w 3], not clipped."""
    y_hat = self.gain_y.inverse(y_hat, level) if self._has(level) else y_hat
    return self.g_s(y_hat.astype(self.dtype)).astype(jnp.float32)

  def _has(self, level: jax.Array | None) -> bool:
    """Whether a level is given, as it must be where there are any."""
    if (level is None) == bool(self.levels):
      given = "none was given" if level is None else "one was given"
      raise SpecError(f"{type(self).__name__}: built with levels={self.levels}, and {given}; a level goes with levels")
    return level is not None

  def auxiliary_loss(self) -> jax.Array:
    """See `EntropyBottleneck`."""
    return self.entropy_bottleneck.auxiliary_loss()

  def quantise(self, x: jax.Array, mode: str, centre: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """`gaussian.quantise` with noise from the rng stream 'noise'."""
    return quantise(x, mode, centre, lambda: self.make_rng("noise"))


class FactorizedPrior(Autoencoder):
  """bmshj2018-factorized."""

  def __call__(self, x: jax.Array, mode: str = "round", level: jax.Array | None = None) -> Coding:
    """float[b h w 3] in 0…1, quantised in a mode of `gaussian.quantise`, at float32[b] levels where there are any."""
    y = self.analysis(x, level)
    y_hat, y_rate = self.quantise(y, mode, self.entropy_bottleneck.medians())
    likelihoods = {"y": self.entropy_bottleneck.likelihood(y_rate)}
    return Coding(self.synthesis(y_hat, level), likelihoods, {"y": y, "y_hat": y_hat}, None)


class ScaleHyperprior(Autoencoder):
  """bmshj2018-hyperprior: zero-mean Gaussians."""

  stride: ClassVar[int] = 64

  def setup(self) -> None:
    self.g_a, self.g_s = self.transforms()
    self.h_a, self.h_s = self.hyper_transforms()
    self.gain_y = Gain(self.levels, self.m, self.param_dtype)
    self.gain_z = Gain(self.levels, self.n, self.param_dtype)
    self.entropy_bottleneck = EntropyBottleneck(self.n, self.param_dtype)

  def hyper_transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    """(h_a, h_s)."""
    up = [(Deconv, self.n), (Deconv, self.n), (Conv, self.m)]
    h_a, layers = self._hyper_analysis(nn.relu), [layer(width, **self.types) for layer, width in up]
    return h_a, nn.Sequential([layers[0], nn.relu, layers[1], nn.relu, layers[2], nn.relu])

  def _hyper_analysis(self, activation: Activation) -> nn.Sequential:
    first, *rest = Conv(self.n, **self.types), *(Conv(self.n, 5, 2, **self.types) for _ in range(2))
    return nn.Sequential([first, activation, rest[0], activation, rest[1]])

  def hyper_analysis(self, y: jax.Array, level: jax.Array | None = None) -> jax.Array:
    """Latents y to z, float32[b h/64 w/64 n]."""
    y = self.gain_y.undone(y, level) if self._has(level) else y
    z = self.h_a(self.seen_of(y).astype(self.dtype)).astype(jnp.float32)
    return self.gain_z(z, level) if self._has(level) else z

  def seen_of(self, y: jax.Array) -> jax.Array:
    """What h_a sees of y: its size, where only the scale is foretold."""
    return jnp.abs(y)

  def hyper_synthesis(self, z_hat: jax.Array, level: jax.Array | None = None) -> jax.Array:
    """z[b h/64 w/64 n] to float32[b h/16 w/16 ·], from which `prior` makes Gaussians."""
    if not self._has(level):
      return self.h_s(z_hat.astype(self.dtype)).astype(jnp.float32)
    features = self.h_s(self.gain_z.inverse(z_hat, level).astype(self.dtype)).astype(jnp.float32)
    parts = features.reshape(*features.shape[:-1], -1, self.m)  # scales, and means where there are any
    return jax.vmap(lambda part: self.gain_y(part, level), -2, -2)(parts).reshape(features.shape)

  def prior(self, features: jax.Array) -> Gaussian | Mixture:
    """What `hyper_synthesis` gave, to Gaussians of y."""
    return Gaussian(jnp.zeros_like(features), features)

  def __call__(self, x: jax.Array, mode: str = "round", level: jax.Array | None = None) -> Coding:
    """float[b h w 3] in 0…1, quantised in a mode of `gaussian.quantise`, at float32[b] levels where there are any."""
    y = self.analysis(x, level)
    z = self.hyper_analysis(y, level)
    z_hat, z_rate = self.quantise(z, mode, self.entropy_bottleneck.medians())
    y_hat, y_rate, prior = self._foretell(y, self.hyper_synthesis(z_hat, level), mode)
    likelihoods = {"y": prior.likelihood(y_rate), "z": self.entropy_bottleneck.likelihood(z_rate)}
    latents = {"y": y, "y_hat": y_hat, "z": z, "z_hat": z_hat}
    return Coding(self.synthesis(y_hat, level), likelihoods, latents, prior)

  def _foretell(self, y: jax.Array, features: jax.Array, mode: str) -> tuple[jax.Array, jax.Array, Gaussian | Mixture]:
    """(ŷ, ỹ, the prior of ỹ)."""
    prior = self.prior(features)
    return *self.quantise(y, mode, prior.centre), prior


class MeanScaleHyperprior(ScaleHyperprior):
  """mbt2018-mean: Gaussians with a mean."""

  def hyper_transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    up = [(Deconv, self.m), (Deconv, self.m * 3 // 2), (Conv, self.m * 2)]
    layers = [layer(width, **self.types) for layer, width in up]
    return self._hyper_analysis(leaky_relu), nn.Sequential([layers[0], leaky_relu, layers[1], leaky_relu, layers[2]])

  def seen_of(self, y: jax.Array) -> jax.Array:
    """All of it."""
    return y

  def prior(self, features: jax.Array) -> Gaussian | Mixture:
    scales, means = jnp.split(features, 2, axis=-1)
    return Gaussian(means, scales)
