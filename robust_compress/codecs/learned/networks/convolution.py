"""Convolutions and their transposes, each in the way that is fastest where it runs.

    convolve    [b h w c] ──k×k, padded by k//2──▶ [b h/s w/s n]
    transpose   [b h w c] ──5×5, stride two──▶ [b 2h 2w n]

A transpose is out[2p + u − 2] = Σ x[p] · kernel[u] in each direction: of the four phases of its output, each is a
convolution of x by every second tap, 3×3, 3×2, 2×3 or 2×2.

Large ones go by `winograd.py` on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from robust_compress import winograd

Pads = tuple[tuple[int, int], tuple[int, int]]  # above and below, to the left and to the right
_NARROW = 16  # channels: four times as many still fill what a processor multiplies at once


class Phase(NamedTuple):
  """Of a transpose, in one direction."""

  taps: slice
  pad: tuple[int, int]  # of x for them
  missing: tuple[int, int]  # zeros that make three taps of them


_PHASES = Phase(slice(None, None, -2), (1, 1), (0, 0)), Phase(slice(3, None, -2), (0, 1), (1, 0))


def direct(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
  """[b h w c] through taps [k l c n], as XLA does it."""
  return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=winograd.LAYOUT)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """[b h w c] through taps [k k c n], padded by k//2, to [b h/stride w/stride n]; a stride divides the sides."""
  size = len(kernel)

  def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return direct(x, kernel, stride, ((size // 2, size // 2),) * 2)

  if (size, stride) not in ((3, 1), (5, 2)):
    return plain(x, kernel)
  return winograd.where_it_pays(partial(winograd.convolve, stride=stride), plain, x, kernel)


def transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[b h w c] through taps [5 5 c n] to [b 2h 2w n]."""
  if kernel.shape[-1] < _NARROW:
    return _jointly(x, kernel)
  return winograd.where_it_pays(_by_filtered_phases, _by_phases, x, kernel)


def _by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
  def phase(row: Phase, column: Phase) -> jax.Array:
    return direct(x, kernel[row.taps, column.taps], 1, (row.pad, column.pad))

  return _interleaved(phase)


def _by_filtered_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
  transformed, height = winograd.transform(x), x.shape[1]

  def phase(row: Phase, column: Phase) -> jax.Array:
    taps = jnp.pad(kernel[row.taps, column.taps], (row.missing, (0, 0), (0, 0), (0, 0)))
    return winograd.filtered(transformed, taps, 1, column.pad)[:, :height]

  return _interleaved(phase)


def _interleaved(phase: Callable[[Phase, Phase], jax.Array]) -> jax.Array:
  """[b h w n] of every phase of rows and of columns to [b 2h 2w n]."""
  rows = [jnp.stack([phase(row, column) for column in _PHASES], axis=3) for row in _PHASES]
  b, h, w, _, n = rows[0].shape
  return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, n)


def _jointly(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """All four phases by one 3×3 convolution, which reads x once: padded to six, taps are numbered 2·(1 − d) + phase."""
  (b, h, w, c), n = x.shape, kernel.shape[-1]
  taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(3, 2, 3, 2, c, n)[::-1, :, ::-1]
  phases = direct(x, taps.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, c, 4 * n), 1, ((1, 1), (1, 1)))
  return phases.reshape(b, h, w, 2, 2, n).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, n)
