"""Convolutions by Winograd's minimal filtering, F(4, 3): six products where four outputs of three taps take twelve.

    rows of x in fours, with the two that follow ──DATA──▶ 6 ─┐
                                                              ├─1×k convolutions, one by one──▶ 6 ──SUMS──▶ 4 rows
    the three taps of each column of the kernel ───TAPS──▶ 6 ─┘

Points 0, ±1, ±2, ∞ (Lavin and Gray 2016, arXiv:1509.09308). Columns alone are filtered, rows convolved as ever: to do
both in XLA costs as much as it saves. Sums come in another order than in a convolution, and differ by some 1e-6 of the
largest. The barriers keep XLA from working out the six anew for each place where they are used.

Only where it pays: on a processor, of large and wide float32 maps, in three fifths of the time; small ones lose by it.
Accelerators choose for themselves, and half precision would not survive the differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import lax

_N_OUT, _N_TAPS = 4, 3
LAYOUT = ("NHWC", "HWIO", "NHWC")
_DATA = (  # a row each of the six, by the rows of x
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
_TAPS = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
         (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
_SUMS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_WIDE, _LARGE = 64, 1 << 18  # channels, and numbers of a picture, from which it pays

Convolve = Callable[[jax.Array, jax.Array], jax.Array]  # (x, kernel)


def where_it_pays(by_filtering: Convolve, plain: Convolve, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x[b h w c] convolved with kernel[k l c n] in one of two ways, the same for any batch."""
  if x.dtype != jnp.float32 or math.prod(x.shape[1:]) < _LARGE or min(kernel.shape[-2:]) < _WIDE:
    return plain(x, kernel)
  return lax.platform_dependent(x, kernel, cpu=by_filtering, default=plain)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """[b h w c] through taps [k k c n], padded by k//2, to [b h/stride w/stride n]: 3×3, or 5×5 of stride two."""
  pads = (len(kernel) // 2,) * 2
  return filtered(transform(x, stride), kernel, stride, pads)[:, : x.shape[1] // stride]


def transform(x: jax.Array, stride: int = 1) -> list[jax.Array]:
  """float[b h w c] to the six that are convolved, float[b t·stride w c] each, for t fours of rows of the output.

  `stride` rows are taken together, as one of more channels, and as many zeros stand above the picture.
  """
  b, h, w, c = x.shape
  n_fours = -(-h // (_N_OUT * stride))
  below = _N_OUT * stride * (n_fours + 1) - stride - h
  fours = jnp.pad(x, ((0, 0), (stride, below), (0, 0), (0, 0))).reshape(b, n_fours + 1, _N_OUT, stride, w, c)
  rows = [fours[:, :-1, i] for i in range(_N_OUT)] + [fours[:, 1:, i] for i in range(_N_TAPS - 1)]
  return lax.optimization_barrier([row.reshape(b, -1, w, c) for row in _combined(_DATA, rows)])


def filtered(transformed: Sequence[jax.Array], kernel: jax.Array, stride: int, pads: tuple[int, int]) -> jax.Array:
  """What `transform` gave with this stride to float[b 4t w/stride n], whose last rows may be too many.

  Args:
    kernel: float[k l c n], k from 2·stride + 1 to 3·stride. Its first tap meets the row `stride` above an output's.
    pads: zeros to the left and to the right.
  """
  k, l, c, n = kernel.shape
  taps = jnp.pad(kernel, ((0, _N_TAPS * stride - k), (0, 0), (0, 0), (0, 0))).reshape(_N_TAPS, stride, l, c, n)
  products = [
    lax.conv_general_dilated(rows, tap, (stride, stride), ((0, 0), pads), dimension_numbers=LAYOUT)
    for rows, tap in zip(transformed, _combined(_TAPS, taps), strict=True)
  ]
  sums = jnp.stack(_combined(_SUMS, lax.optimization_barrier(products)), axis=2)
  return sums.reshape(sums.shape[0], -1, *sums.shape[3:])


def _combined(matrix: Sequence[Sequence[float]], rows: Iterable[jax.Array]) -> list[jax.Array]:
  rows = list(rows)
  return [reduce(add, (factor * row for factor, row in zip(line, rows, strict=True) if factor)) for line in matrix]
