"""What two-stage detectors learn from: boxes matched by overlap, a balanced random sample of them, the box loss."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_compress.models import boxes as boxes_


class Truth(NamedTuple):
  """The objects of pictures."""

  boxes: jax.Array  # float32[b k 4]
  labels: jax.Array  # int32[b k]
  present: jax.Array  # bool[b k]: to be learned from


class Sample(NamedTuple):
  """A choice of boxes of each picture."""

  index: jax.Array  # int32[b n]
  taken: jax.Array  # bool[b n]; what is not taken stands at the end
  positive: jax.Array  # bool[b n]


def truth(targets: dict[str, jax.Array]) -> Truth:
  """The objects that count: labelled, no crowd, not difficult, of a picture that is no padding, and not empty."""
  found = targets["boxes"]
  present = (targets["box_kinds"] == 0) & (targets["box_labels"] >= 0) & targets["mask"][:, None]
  return Truth(found, targets["box_labels"], present & (found[..., 2:] > found[..., :2]).all(-1))


def match(
  objects: jax.Array, present: jax.Array, boxes: jax.Array, high: float, low: float, low_quality: bool
) -> tuple[jax.Array, jax.Array]:
  """torchvision's Matcher for one picture: which object each box is for, int32[n], and its kind, int32[n].

  A box is positive (1) where its largest IoU is at least `high`, negative (-1) where it is below `low`, else neither
  (0). With `low_quality`, positive too where no other box overlaps some object better. Objects come one after another,
  so that memory is that of n.

  Args:
    objects: float32[k 4], those `present` bool[k].
    boxes: float32[n 4].
  """

  def step(
    carry: tuple[jax.Array, jax.Array, jax.Array], one: tuple[jax.Array, jax.Array, jax.Array]
  ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
    best, which, forced = carry
    box, there, i = one
    overlap = jnp.where(there, boxes_.iou(box[None], boxes)[0], -1.0)
    better = overlap > best
    forced |= there & (overlap == overlap.max())
    return (jnp.maximum(best, overlap), jnp.where(better, i, which), forced), None

  n = len(boxes)
  start = jnp.full(n, -1.0), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool)
  order = jnp.arange(len(objects), dtype=jnp.int32)
  best, which, forced = jax.lax.scan(step, start, (objects, present, order))[0]
  positive = (best >= high) | (forced if low_quality else False)
  return which, jnp.where(positive, 1, jnp.where(best < low, -1, 0)).astype(jnp.int32)


def balanced(rng: jax.Array, kinds: jax.Array, n: int, fraction: float) -> Sample:
  """torchvision's balanced sampler: at most n·fraction positives and negatives up to n, at random, of each picture.

  Args:
    kinds: int32[b m]: 1 positive, -1 negative, else left out.
  """
  m = kinds.shape[1]
  most, n = min(int(n * fraction), m), min(n, m)
  chance = jax.random.uniform(rng, kinds.shape, minval=0.5)  # above 0, which stands for what is left out
  positives, chosen = jax.lax.top_k(jnp.where(kinds == 1, chance, 0.0), most)
  negatives, others = jax.lax.top_k(jnp.where(kinds == -1, chance, 0.0), n)
  room = n - (positives > 0).sum(-1, keepdims=True, dtype=jnp.int32)
  taken = jnp.concatenate([positives > 0, (negatives > 0) & (jnp.arange(n, dtype=jnp.int32) < room)], -1)
  order = jnp.argsort(~taken, stable=True)[:, :n]
  taken, index = (jnp.take_along_axis(x, order, 1) for x in (taken, jnp.concatenate([chosen, others], -1)))
  return Sample(index, taken, taken & (order < most))


def rows(x: jax.Array, index: jax.Array) -> jax.Array:
  """Rows index int32[b n] of x[b m …]: [b n …]."""
  return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), 1)


def box_loss(
  deltas: jax.Array, objects: jax.Array, boxes: jax.Array, counted: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
  """Smooth L1 with β 1/9 between deltas[… 4] and what takes `boxes` to `objects`, summed over those `counted`."""
  whole = jnp.asarray([0.0, 0.0, 1.0, 1.0])  # in place of empty boxes, which have no deltas
  wanted = boxes_.encode(*(jnp.where(counted[..., None], x, whole) for x in (objects, boxes)), weights)
  gap = jnp.abs(deltas - wanted)
  losses = jnp.where(gap < 1 / 9, 4.5 * gap**2, gap - 1 / 18)
  return jnp.where(counted[..., None], losses, 0.0).sum()
