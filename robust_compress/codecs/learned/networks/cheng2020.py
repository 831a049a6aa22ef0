"""Cheng et al. 2020 (arXiv:2001.01568): residual blocks of 3×3 convolutions, attention, a mixture of Gaussians.

cheng2020-anchor   without attention, one Gaussian a latent        as CompressAI publishes them: its cheng2020 has
cheng2020-attn     with attention, one Gaussian a latent           no mixture
cheng2020-gmm      the paper's own: attention, and three Gaussians a latent

    g_a  [b h w 3] ─down─res─down─(attention)─res─down─res─3×3 /2─(attention)─▶ y[b h/16 w/16 m]
    g_s  y ─(attention)─res─up─res─up─(attention)─res─up─res─subpixel─▶ [b h w 3]
    h_a  y ─3×3─·─3×3─·─3×3 /2─·─3×3─·─3×3 /2─▶ z[b h/64 w/64 n]
    h_s  z ─3×3─·─subpixel─·─3×3─·─subpixel─·─3×3─▶ features[b h/16 w/16 2m]

Context and coding are those of mbt2018 (`context.py`). The published networks have m = n; m may be larger here, which
widens the layers at 1/16 of the picture alone, and costs little.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.codecs.learned.networks.context import ContextModel
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture
from robust_compress.codecs.learned.networks.layers import Activation, Conv, leaky_relu, subpixel
from robust_compress.codecs.learned.networks.residual import Attention, ResidualBlock, ResidualDown, ResidualUp


class Anchor(ContextModel):
  """cheng2020-anchor."""

  reach: ClassVar[int] = 12
  hyper_reach: ClassVar[int] = 4

  def transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    res, down, up = (partial(block, self.n, **self.types) for block in (ResidualBlock, ResidualDown, ResidualUp))
    last, first = Conv(self.m, stride=2, **self.types), ResidualBlock(self.m, **self.types)
    g_a = [down(), res(), down(), res(), down(), res(), last]
    g_s = [first, up(), res(), up(), res(), up(), res(), subpixel(3, **self.types)]
    return nn.Sequential(g_a), nn.Sequential(g_s)

  def hyper_transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    conv, wide = partial(Conv, **self.types), self.n * 3 // 2
    h_a = [conv(self.n), conv(self.n), conv(self.n, stride=2), conv(self.n), conv(self.n, stride=2)]
    h_s = [conv(self.n), subpixel(self.n, **self.types), conv(wide), subpixel(wide, **self.types), conv(2 * self.m)]
    return nn.Sequential(_activated(h_a)), nn.Sequential(_activated(h_s))


class Attentive(Anchor):
  """cheng2020-attn."""

  def transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
    res, down, up = (partial(block, self.n, **self.types) for block in (ResidualBlock, ResidualDown, ResidualUp))
    last, first = Conv(self.m, stride=2, **self.types), ResidualBlock(self.m, **self.types)
    attend = partial(Attention, **self.types)
    g_a = [down(), res(), down(), attend(self.n), res(), down(), res(), last, attend(self.m)]
    g_s = [attend(self.m), first, up(), res(), up(), attend(self.n), res(), up(), res(), subpixel(3, **self.types)]
    return nn.Sequential(g_a), nn.Sequential(g_s)


class GaussianMixture(Attentive):
  """cheng2020-gmm. The parameters of the mixture come as weights, means and scales of k·m channels each.

  Weights pass a softmax over k; a scale counts by its size. The hidden layers have the width of the authors' program.
  """

  k: int = 3
  hidden: int = 640

  def parameter_widths(self) -> tuple[int, ...]:
    return self.hidden, self.hidden, 3 * self.k * self.m

  def as_prior(self, parameters: jax.Array) -> Gaussian | Mixture:
    parts = parameters.reshape(*parameters.shape[:-1], 3, self.m, self.k)
    weights, means, scales = (parts[..., i, :, :] for i in range(3))
    return Mixture(nn.softmax(weights, axis=-1), means, jnp.abs(scales))


def _activated(layers: list[nn.Module]) -> list[Activation]:
  """The layers with leaky ReLUs between them."""
  return [step for layer in layers for step in (layer, leaky_relu)][:-1]
