"""The class of every pixel of the view, from logits at the places of the input.

    logits[h w k] ──two rows and two columns around each pixel, by their distance──▶ logits at H·W pixels ──▶ best class

Bilinear with the centres of pixels at halves, and the edge repeated: `torch.nn.functional.interpolate` with
align_corners=False, as MMSegmentation and transformers scale logits up before the best class is taken. Scales differ
from row to row of a batch and come as numbers, so that shapes stay static. Where input and view coincide, the numbers
are the logits themselves. The canvas is done in strips: of 150 classes a megapixel takes 600 MB, which a compiler that
does not fuse it all would hold at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

STRIP = 2**24  # logits resampled at once: 64 MB


def resampled_classes(logits: jax.Array, place: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """uint8[b H W]: arg max of logits[b h w k] at the pixels of the view; place float32[b 6] as batches have it."""
  size = logits.shape[1:3]

  def best() -> jax.Array:
    return logits.argmax(-1).astype(jnp.uint8)

  if size != shape:
    return _resampled(logits, place, shape)
  same = (place[:, :4] == jnp.asarray([0, 0, 1, 1], place.dtype)).all()
  return jax.lax.cond(same, best, lambda: _resampled(logits, place, shape))


def _resampled(logits: jax.Array, place: jax.Array, shape: tuple[int, int]) -> jax.Array:
  n, height, width, n_classes = logits.shape
  n_rows = int(np.clip(STRIP // (shape[1] * n_classes), 1, shape[0]))
  n_strips = -(-shape[0] // n_rows)
  low, high, share = _neighbours(n_strips * n_rows, place[:, 0], place[:, 2], place[:, 4])
  first = height * jnp.arange(n, dtype=jnp.int32)[:, None]
  rows = tuple(part.reshape(n * n_strips, n_rows) for part in (low + first, high + first, share))
  columns = tuple(
    jnp.repeat(part, n_strips, 0) for part in _neighbours(shape[1], place[:, 1], place[:, 3], place[:, 5])
  )
  lines = logits.reshape(n * height, width, n_classes)

  def strip(ends: tuple) -> jax.Array:
    """uint8[n_rows W]."""
    (upper, lower, down), (left, right, along) = ends
    between = _between(lines[upper], lines[lower], down[:, None, None])
    return _between(between[:, left], between[:, right], along[:, None]).argmax(-1).astype(jnp.uint8)

  strips = jax.lax.map(strip, (rows, columns))
  return strips.reshape(n, n_strips * n_rows, shape[1])[:, : shape[0]]


def _between(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
  a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  return a + share * (b - a)


def _neighbours(
  n: int, start: jax.Array, scale: jax.Array, extent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(low, high, share of high), [b n] each: the input's samples about each of n pixels of the view."""
  pixel = jnp.arange(n, dtype=jnp.float32)[None]
  at = (pixel + 0.5 - start[:, None]) / scale[:, None] - 0.5
  last = extent[:, None].astype(jnp.int32) - 1
  at = jnp.clip(at, 0, last.astype(jnp.float32))
  low = at.astype(jnp.int32)
  return low, jnp.minimum(low + 1, last), at - low.astype(jnp.float32)
