"""Boxes float32[... 4], x0 y0 x1 y1 in continuous pixels: overlaps, deltas from anchors, non-maximum suppression.

Shapes are static, so that all of it runs compiled, under `vmap` and on any accelerator.

    nms:  sort by score ─▶ blocks of 512 ┬─ greedy within the block, iterated to its fixed point
                                         └─ what it keeps suppresses the later blocks ─▶ next block
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

BLOCK = 512
MAX_RATIO = math.log(1000 / 16)  # of a side to its anchor's, as a logarithm


def area(boxes: jax.Array) -> jax.Array:
  """float32[...] of boxes[... 4]."""
  return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Intersection over union float32[n m] of a[n 4] and b[m 4]; 0 where both are empty."""
  return _overlap(a[:, None], b[None])[0]


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Generalised IoU (Rezatofighi et al. 2019) float32[n m] of a[n 4] and b[m 4]."""
  return paired_giou(a[:, None], b[None])


def paired_giou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Generalised IoU float32[n] of a[n 4] and b[n 4], row by row; leading shapes that broadcast do, too."""
  overlap, union = _overlap(a, b)
  low, high = jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])
  hull = area(jnp.concatenate([low, high], -1))
  return overlap - _ratio(hull - union, hull)


def paired_iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Intersection over union float32[n] of a[n 4] and b[n 4], row by row."""
  return _overlap(a, b)[0]


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """IoU and union of boxes whose leading shapes broadcast."""
  low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
  inside = jnp.maximum(high - low, 0.0)
  common = inside[..., 0] * inside[..., 1]
  union = area(a) + area(b) - common
  return _ratio(common, union), union


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
  empty = whole <= 0  # the inner where keeps gradients finite
  return jnp.where(empty, 0.0, part / jnp.where(empty, 1.0, whole))


def clip(boxes: jax.Array, height: jax.Array | int, width: jax.Array | int) -> jax.Array:
  """boxes[... n 4] cut off at a picture's edges; height and width broadcast against [... n]."""
  height, width = jnp.asarray(height, boxes.dtype), jnp.asarray(width, boxes.dtype)
  x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
  zero = jnp.zeros((), boxes.dtype)
  cut = [jnp.clip(x0, zero, width), jnp.clip(y0, zero, height), jnp.clip(x1, zero, width), jnp.clip(y1, zero, height)]
  return jnp.stack(cut, -1)


def from_centres(boxes: jax.Array) -> jax.Array:
  """Corners of boxes[... 4] given as centre x, y, width, height."""
  centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
  return jnp.concatenate([centre - half, centre + half], -1)


def to_centres(boxes: jax.Array) -> jax.Array:
  """Centre x, y, width, height of boxes[... 4] given as corners."""
  size = boxes[..., 2:] - boxes[..., :2]
  return jnp.concatenate([boxes[..., :2] + 0.5 * size, size], -1)


def encode(boxes: jax.Array, anchors: jax.Array, weights: tuple[float, ...] = (1.0,) * 4) -> jax.Array:
  """Deltas float32[... 4] that take anchors to boxes (Girshick et al. 2014), each times its weight.

  MMDetection's `stds` are the reciprocals of `weights`. Empty anchors or boxes give deltas that are not finite.
  """
  found, start = to_centres(boxes), to_centres(anchors)
  shift = (found[..., :2] - start[..., :2]) / start[..., 2:]
  return jnp.concatenate([shift, jnp.log(found[..., 2:] / start[..., 2:])], -1) * jnp.asarray(weights, boxes.dtype)


def decode(
  deltas: jax.Array,
  anchors: jax.Array,
  weights: tuple[float, ...] = (1.0,) * 4,
  max_ratio: float = MAX_RATIO,
  two_sided: bool = False,
) -> jax.Array:
  """Boxes float32[... 4] that deltas[... 4] make of anchors[... 4], whose leading shapes broadcast.

  The logarithm of the ratio of sides is at most `max_ratio`; `two_sided` (MMDetection) bounds it below as well.
  """
  deltas, start = deltas / jnp.asarray(weights, deltas.dtype), to_centres(anchors)
  ratio = jnp.clip(deltas[..., 2:], -max_ratio if two_sided else None, max_ratio)
  centre = deltas[..., :2] * start[..., 2:] + start[..., :2]
  return from_centres(jnp.concatenate([centre, jnp.exp(ratio) * start[..., 2:]], -1))


def nms(boxes: jax.Array, scores: jax.Array, labels: jax.Array | None, threshold: float, n_out: int) -> jax.Array:
  """Greedy non-maximum suppression: indices int32[n_out] of what is kept, best first, and -1 behind the last.

  A box goes where one that is kept, has a higher score (or an equal one and a lower index) and the same label overlaps
  it by an IoU above `threshold`: by definition `torchvision.ops.batched_nms`.

  Args:
    boxes: float32[n 4].
    scores: float32[n], probabilities; a box whose score is not above 0 is padding, neither kept nor suppressing.
    labels: int32[n], or None where all boxes compete.
  """
  order = jnp.argsort(-scores)  # stable
  kept = greedy(boxes[order], scores[order] > 0, threshold, None if labels is None else labels[order])
  [places] = jnp.nonzero(kept, size=n_out, fill_value=-1)
  return jnp.where(places < 0, -1, order[places]).astype(jnp.int32)


def greedy(boxes: jax.Array, candidates: jax.Array, threshold: float, labels: jax.Array | None = None) -> jax.Array:
  """Non-maximum suppression of boxes[n 4] that come best first: which of the `candidates` bool[n] stay, bool[n]."""
  n = boxes.shape[0]
  block = min(BLOCK, n)
  ranks = jnp.arange(n + -n % block, dtype=jnp.int32)
  boxes, kept, labels = (
    jnp.pad(x, ((0, -n % block), *((0, 0),) * (x.ndim - 1)))
    for x in (boxes, candidates, jnp.zeros(n, jnp.int32) if labels is None else labels)
  )

  def step(kept: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
    own, kind, rank = (jax.lax.dynamic_slice_in_dim(x, start, block) for x in (boxes, labels, ranks))
    beats = (iou(own, boxes) > threshold) & (kind[:, None] == labels[None]) & (rank[:, None] < ranks[None])
    inner = jax.lax.dynamic_slice_in_dim(beats, start, block, axis=1)
    mine = _settle(inner, jax.lax.dynamic_slice_in_dim(kept, start, block))
    return kept & ~_any_beats(mine, beats), None

  return jax.lax.scan(step, kept, ranks[::block])[0][:n]


def _settle(beats: jax.Array, candidates: jax.Array) -> jax.Array:
  """The greedy choice: the only fixed point of 'kept unless something kept beats it', as `beats` runs forwards.

  Each round settles at least one more rank, mostly all of them within a few.
  """

  def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return candidates & ~_any_beats(state[0], beats), state[0]

  return jax.lax.while_loop(lambda state: jnp.any(state[0] != state[1]), body, (candidates, ~candidates))[0]


def _any_beats(kept: jax.Array, beats: jax.Array) -> jax.Array:
  return jnp.any(kept[:, None] & beats, axis=0)


def best_by_class(boxes: jax.Array, scores: jax.Array, threshold: float, n_out: int) -> jax.Array:
  """`nms` for n boxes of each of k classes, where few are wanted: indices int32[n_out] into the n·k, -1 for none.

  It takes the best that is left, n_out times, and with it goes what it overlaps in its class: no matter how many pass
  a threshold of scores, none has to be left out of the choice.

  Args:
    boxes: float32[n k 4].
    scores: float32[n k]; what is not above 0 is padding.
  """
  k = scores.shape[1]

  def step(left: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
    best = jnp.argmax(left).astype(jnp.int32)  # the first of equals
    row, column = best // k, best % k
    rivals, own = boxes[:, column], left[:, column]
    gone = (iou(rivals[row][None], rivals)[0] > threshold) | (jnp.arange(left.shape[0], dtype=jnp.int32) == row)
    return left.at[:, column].set(jnp.where(gone, 0.0, own)), jnp.where(own[row] > 0, best, -1)

  return jax.lax.scan(step, scores, None, n_out)[1]
