"""Strided convolutions that start as principal components, for mbt2018-mean.

    g_a  x ─5×5 /2─ GDN, nearly linear ─ … ─5×5 /2─▶ y        a kernel: the rotation at the four taps of a block,
    g_s  its inverse, by the same rotations                  and next to nothing around them

The networks are those of Ballé et al. 2018 and Minnen et al. 2018.
"""

from __future__ import annotations

import numpy as np

from robust_compress.starting.components import Stage, stages
from robust_compress.starting.layers import known_sizes, nearly_linear, noise

STEP = 1 / 8  # of rounding at the middle level, on samples in 0…1 under an orthonormal transform
NOISE, NOISE_UP = 0.1, 0.05  # in g_a and g_s, of the usual random kernels, so that no two channels are alike


def start(pictures: np.ndarray, n: int, m: int, seed: int = 0) -> dict[str, np.ndarray]:
  """float[b 16·i 16·j 3] pictures in 0…1 to arrays {'params/g_a/layers_0/kernel': …}."""
  rng, found = np.random.default_rng(seed), {}
  for i, stage in enumerate(stages(pictures, (n, n, n, m), STEP)):
    down, up = 2 * i, 6 - 2 * i  # the layers of g_a and g_s
    found[f"params/g_a/layers_{down}/kernel"] = stage.kernel(rng, 5, NOISE)
    found[f"params/g_a/layers_{down}/bias"] = stage.bias().astype(np.float32)
    found[f"params/g_s/layers_{up}/transposed"] = _transposed(rng, stage)
    found[f"params/g_s/layers_{up}/bias"] = stage.centre[: stage.channels].astype(np.float32)
    if up:  # the last stage has no norm behind it
      found |= nearly_linear(f"params/g_a/layers_{down + 1}", stage.width)
      found |= nearly_linear(f"params/g_s/layers_{up - 1}", stage.width)
  return found | known_sizes(rng, "layers_4", 5, n, stage.sizes())


def _transposed(rng: np.random.Generator, stage: Stage) -> np.ndarray:
  """float32[5 5 width c]: taps 2 and 3 of each axis give a block back."""
  kernel = noise(rng, (5, 5, stage.width, stage.channels), NOISE_UP)
  for i, j, part in stage.places:
    kernel[2 + i, 2 + j, : part.shape[1]] = part.T * stage.step
  return kernel.astype(np.float32)
