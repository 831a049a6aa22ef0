"""Maps of another size, as PyTorch makes them: bilinear interpolation by either convention, and average pooling into
a given number of bins.

    x[b h w c] ──rows: [H h] · x──▶ [b H w c] ──columns: [W w] · x──▶ [b H W c]

Both are linear and separable, so each is two products with small constant matrices. They need no gathering, and neither
do their gradients.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

Size = tuple[int, int]


def resize(x: jax.Array, size: Size, align_corners: bool = False) -> jax.Array:
  """x[b h w c] bilinearly at `size`, as torch.nn.functional.interpolate: [b *size c], without smoothing.

  With `align_corners` the middles of the corner pixels stay where they are; without, their outer corners do.
  """
  if x.shape[1:3] == size:
    return x
  return _product(x, *(_bilinear(n, to, align_corners) for n, to in zip(x.shape[1:3], size)))


def adaptive_pool(x: jax.Array, n: int) -> jax.Array:
  """Means of x[b h w c] in n×n bins, [b n n c], as torch.nn.AdaptiveAvgPool2d: bins overlap where n does not divide."""
  return _product(x, *(_bins(length, n) for length in x.shape[1:3]))


def _product(x: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
  # The highest precision: where products are rounded by default, positions would be.
  multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  x = multiply("Hh,bhwc->bHwc", jnp.asarray(rows, x.dtype), x)
  return multiply("Ww,bhwc->bhWc", jnp.asarray(columns, x.dtype), x)


@functools.lru_cache(maxsize=256)
def _bilinear(n: int, to: int, align_corners: bool) -> np.ndarray:
  """float32[to n]: what each of n positions gives to each of `to`."""
  at = np.arange(to, dtype=np.float64)
  at = at * ((n - 1) / max(to - 1, 1)) if align_corners else np.maximum((at + 0.5) * (n / to) - 0.5, 0)
  low = np.minimum(at.astype(int), n - 1)
  matrix = np.zeros((to, n), np.float32)
  np.add.at(matrix, (np.arange(to), low), 1 - (at - low))
  np.add.at(matrix, (np.arange(to), np.minimum(low + 1, n - 1)), at - low)
  return matrix


@functools.lru_cache(maxsize=256)
def _bins(length: int, n: int) -> np.ndarray:
  """float32[n length]: the mean of every bin, from ⌊i·length/n⌋ to ⌈(i+1)·length/n⌉."""
  matrix = np.zeros((n, length), np.float32)
  for i in range(n):
    start, stop = i * length // n, -(-(i + 1) * length // n)
    matrix[i, start:stop] = 1 / (stop - start)
  return matrix
