"""Residual networks that start as principal components, for cheng2020-gmm.

    down   x ─┬─ 2×2 blocks rotated, lifted ─ lrelu ─ lowered ─ GDN, nearly linear ─(+)─▶
              └─ 1×1 /2, next to nothing ────────────────────────────────────────────┘
    up     x ─┬─ next to nothing ────────────────────────────────────────────(+)─▶
              └─ rotated back, by the sub-pixel convolution ─────────────────┘

Residual blocks add next to nothing, attention is almost shut. The mixture starts as three Gaussians about the mean
which h_s foretells: narrower, as wide and wider than it says. The network is that of Cheng et al. 2020.
"""

from __future__ import annotations

import numpy as np

from robust_compress.codecs.learned.networks.cheng2020 import GaussianMixture
from robust_compress.starting.components import Stage, stages
from robust_compress.starting.context import LIFT, entropy_parameters, passing
from robust_compress.starting.layers import known_sizes, nearly_linear, noise
from robust_compress.types import SpecError

STEP = 1 / 6  # of rounding at the middle level: of five, and so coarser than that of mbt2018-mean's seven
NOISE = 0.02  # of the usual random kernels: there are several on every way, and they add up
CLEAR = 4  # standard deviations that blocks are lifted by: nearly all then lie where leaky ReLU is linear
SHUT = -4.0  # logit of attention: it lets through 2 %
SPREADS = (0.5, 1.0, 2.0)  # of the mixture's scales
LEAST = 0.1  # added to the sizes of channels, by which others are divided
DOWN, UP = (0, 2, 5, 7), (9, 7, 4, 2)  # layers of g_a and g_s that each stage is held by
WIDE = (("g_a", 8), ("g_s", 0), ("g_s", 1))  # layers of m channels; the others have n
RESIDUAL = (("g_a", (1, 4, 6)), ("g_s", (1, 3, 6, 8)))
ATTENTION = (("g_a", (3, 8)), ("g_s", (0, 5)))


def start(pictures: np.ndarray, n: int, m: int, seed: int = 0) -> dict[str, np.ndarray]:
  """float[b 16·i 16·j 3] pictures in 0…1 to arrays {'params/g_a/layers_0/conv1/kernel': …}.

  Args:
    n, m: channels of the transforms, and of y.

  Raises:
    SpecError: an m which the hidden layers of the mixture have no room for.
  """
  if not 2 <= m <= GaussianMixture.hidden // 2:
    raise SpecError(f"cheng2020-gmm(m={m}): expected 2 to {GaussianMixture.hidden // 2} channels to start with")
  rng, found = np.random.default_rng(seed), {}
  for i, stage in enumerate(stages(pictures, (n, n, n, m), STEP)):
    found |= (_down if i < 3 else _last_down)(rng, stage, f"params/g_a/layers_{DOWN[i]}")
    found |= (_up if i else _subpixel)(rng, stage, f"params/g_s/layers_{UP[i]}")
  for block, width in _blocks(RESIDUAL, n, m):
    found |= {f"{block}/conv{i}/kernel": _small(rng, 3, 3, width, width) for i in (1, 2)}
  for attention, width in _blocks(ATTENTION, n, m):
    gate = f"{attention}/conv_b/layers_3"
    found |= {f"{gate}/kernel": _small(rng, 1, 1, width, width), f"{gate}/bias": np.full(width, SHUT, np.float32)}
  sizes = stage.sizes() + LEAST
  return found | _mixture(rng, sizes) | known_sizes(rng, "layers_8", 3, n, sizes)


def _blocks(layers: tuple[tuple[str, tuple[int, ...]], ...], n: int, m: int) -> list[tuple[str, int]]:
  """(path, width) of such layers."""
  places = [(name, i) for name, numbers in layers for i in numbers]
  return [(f"params/{name}/layers_{i}", m if (name, i) in WIDE else n) for name, i in places]


def _small(rng: np.random.Generator, *shape: int) -> np.ndarray:
  """float32[… c n] of noise."""
  return noise(rng, shape, NOISE).astype(np.float32)


def _down(rng: np.random.Generator, stage: Stage, path: str) -> dict[str, np.ndarray]:
  """`ResidualDown`: the first convolution rotates and lifts, the second lowers."""
  n, lift = stage.width, CLEAR * stage.y.std((0, 1, 2))
  first, second = stage.kernel(rng, 3, NOISE), _small(rng, 3, 3, n, n)
  second[1, 1] = np.eye(n)
  found = {
    f"{path}/conv1/kernel": first,
    f"{path}/conv1/bias": (stage.bias() + lift).astype(np.float32),
    f"{path}/conv2/kernel": second,
    f"{path}/conv2/bias": -(lift @ second.sum((0, 1))).astype(np.float32),
    f"{path}/skip/kernel": _small(rng, 1, 1, stage.channels, n),
  }
  return found | nearly_linear(f"{path}/gdn", n)


def _last_down(rng: np.random.Generator, stage: Stage, path: str) -> dict[str, np.ndarray]:
  """The convolution that ends g_a."""
  return {f"{path}/kernel": stage.kernel(rng, 3, NOISE), f"{path}/bias": stage.bias().astype(np.float32)}


def _up(rng: np.random.Generator, stage: Stage, path: str) -> dict[str, np.ndarray]:
  """`ResidualUp`: its skip rotates back."""
  c = stage.channels
  found = _subpixel(rng, stage, f"{path}/upsample")
  found[f"{path}/conv/kernel"] = _small(rng, 3, 3, c, c)
  found[f"{path}/subpel_conv/layers_0/kernel"] = stage.step * _small(rng, 3, 3, stage.width, 4 * c)
  return found | nearly_linear(f"{path}/igdn", c)


def _subpixel(rng: np.random.Generator, stage: Stage, path: str) -> dict[str, np.ndarray]:
  """A sub-pixel convolution, whose middle tap gives blocks back: the places of a channel lie side by side."""
  kernel = stage.step * _small(rng, 3, 3, stage.width, 4 * stage.channels)
  kernel[1, 1] = 0
  for place, (_, _, part) in enumerate(stage.places):
    kernel[1, 1, : part.shape[1], place::4] = part.T * stage.step
  bias = np.repeat(stage.centre[: stage.channels], 4).astype(np.float32)
  return {f"{path}/layers_0/kernel": kernel, f"{path}/layers_0/bias": bias}


def _mixture(rng: np.random.Generator, sizes: np.ndarray) -> dict[str, np.ndarray]:
  """From features, of scales and means as large as `sizes` float64[m], to weights alike and Gaussians of `SPREADS`."""
  m, k, hidden = len(sizes), len(SPREADS), GaussianMixture.hidden
  widths, both = (4 * m, hidden, hidden, 3 * k * m), np.concatenate([sizes, sizes])
  layers, biases = passing(lambda *shape: _small(rng, *shape), widths, both)
  kernel, bias = layers[2].reshape(hidden, 3, m, k), biases[2].reshape(3, m, k)  # weights, means, scales
  kernel[: 2 * m] = 0
  kernel[:, 1:] *= sizes[:, None]
  one = np.arange(m)
  kernel[one, 2, one] = sizes[:, None] * SPREADS  # features are scales,
  kernel[m + one, 1, one] = sizes[:, None]  # and then means
  bias[1] = -LIFT * sizes[:, None]
  layers[2], biases[2] = kernel.reshape(hidden, -1), bias.reshape(-1)
  return entropy_parameters(layers, biases)
