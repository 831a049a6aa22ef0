"""Arrays of layers as they start: noise, norms that hardly bend, a hyperprior that knows the size of each channel."""

from __future__ import annotations

import math

import numpy as np

from robust_compress.codecs.learned.networks.layers import PEDESTAL

BEND = 0.01  # GDN's γ: nearly linear, so that g_s undoes g_a
LIVELY = 4  # times the usual kernel: of what makes z, so that it is not all rounded to zero


def noise(rng: np.random.Generator, shape: tuple[int, ...], amount: float) -> np.ndarray:
  """float64[… c n], as random kernels of that shape usually are, times `amount`."""
  bound = amount / np.sqrt(math.prod(shape[:-1]))
  return rng.uniform(-bound, bound, shape)


def nearly_linear(path: str, width: int) -> dict[str, np.ndarray]:
  """GDN or its inverse, as stored."""
  gamma = np.sqrt(BEND * np.eye(width) + PEDESTAL).astype(np.float32)
  return {f"{path}/beta": np.full(width, np.sqrt(1 + PEDESTAL), np.float32), f"{path}/gamma": gamma}


def known_sizes(rng: np.random.Generator, last: str, taps: int, n: int, sizes: np.ndarray) -> dict[str, np.ndarray]:
  """A hyperprior which, before it has learned anything, foretells scales of `sizes` and means of zero.

  Args:
    last: the name of the last layer of h_a and of h_s.
    taps: of each axis of the last kernel of h_a.
    n: channels of z.
    sizes: float64[m], of the channels of y.
  """
  return {
    f"params/h_s/{last}/bias": np.concatenate([sizes, np.zeros(len(sizes))]).astype(np.float32),
    f"params/h_a/{last}/kernel": noise(rng, (taps, taps, n, n), LIVELY).astype(np.float32),
  }
