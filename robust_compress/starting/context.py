"""Layers behind a hyperprior that start by letting what it foretells through, and an mbt2018 that starts so.

    features ─ to a like size, means lifted ─ lrelu ─ as they are ─ lrelu ─ lowered, to their own size ─▶ scales, means
    context  ─ next to nothing ─┘

Leaky ReLUs are linear where means are lifted to. Scales are positive where it matters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from robust_compress import convert
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.weights import Loaded
from robust_compress.starting.layers import noise

LIFT = 2.5  # of foretold means, in their own sizes: what is lifted higher, a step of Adam shakes harder
NOISE = 0.1  # of the usual random kernels


def with_context(mean: Loaded, pictures: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
  """Arrays of an mbt2018 that foretells what the mbt2018-mean does, whose arrays are among them.

  Args:
    mean: its weights.
    pictures: float32[b 64·i 64·j 3] in 0…1, on which the size of features is measured.
  """
  rng, m = np.random.default_rng(seed), mean.m
  sizes = _feature_sizes(mean, pictures)
  widths = (4 * m, m * 10 // 3, m * 8 // 3, 2 * m)
  layers, biases = passing(lambda *shape: noise(rng, shape, NOISE), widths, sizes)
  layers[2][: 2 * m] = np.diag(sizes)
  layers[2][2 * m :] *= sizes
  biases[2][:] = -biases[0][: 2 * m] * sizes
  return dict(convert.flatten(mean.variables)) | entropy_parameters(layers, biases)


def passing(
  draw: Callable[[int, int], np.ndarray], widths: Sequence[int], sizes: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Three layers, of which two let features through, as the head of this file has it; the third is for the caller.

  Args:
    draw: random float[c n] for what does not matter yet.
    widths: of what the first takes, and of what each of the three gives; none but the last less than 2m.
    sizes: float64[2m] of the features, which come first, and first in every layer.

  Returns:
    (matrices float[c n], biases float64[n]): the last matrix as drawn, the last bias 0.
  """
  layers = [draw(*shape) for shape in itertools.pairwise(widths)]
  biases, n = [np.zeros(width) for width in widths[1:]], len(sizes)
  for layer, gain in zip(layers[:2], (1 / sizes, np.ones(n))):
    layer[:n, :n] = np.diag(gain)
  biases[0][:n] = np.repeat([0.0, LIFT], n // 2)
  return layers, biases


def entropy_parameters(layers: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  """Such layers as stored."""
  found = {}
  for i, (layer, bias) in enumerate(zip(layers, biases)):
    found[f"params/entropy_parameters/layers_{2 * i}/kernel"] = layer[None, None].astype(np.float32)
    found[f"params/entropy_parameters/layers_{2 * i}/bias"] = bias.astype(np.float32)
  return found


def _feature_sizes(mean: Loaded, pictures: np.ndarray) -> np.ndarray:
  """float64[2m], the root mean square of what h_s foretells, at the middle level."""
  module = weights.module(mean)
  level = np.full(len(pictures), (mean.levels - 1) / 2, np.float32) if mean.levels else None
  y = module.apply(mean.variables, pictures, level, method="analysis")
  z_hat = np.rint(module.apply(mean.variables, y, level, method="hyper_analysis"))
  features = np.asarray(module.apply(mean.variables, z_hat, level, method="hyper_synthesis"), np.float64)
  return np.sqrt(np.square(features).mean((0, 1, 2))) + 0.1
