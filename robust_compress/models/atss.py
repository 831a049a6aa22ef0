"""Which anchors learn which boxes: ATSS (Zhang et al. 2020, arXiv:1912.02424) with DDOD's cost (arXiv:2107.02963).

    the 9 anchors of each level nearest to a box ─▶ candidates, and their cost p(class)^(1−α) · IoU^α ─┐
    cost ≥ mean + deviation of the box's candidates, centre inside the box ◀───────────────────────────┘
    an anchor wanted by several boxes learns the one with the highest cost

The cost is of what the network predicts at the moment. DDOD assigns twice, with its own α for classes and for boxes.
All of it is for one picture, with boxes padded to a constant number; it follows MMDetection's `ATSSAssigner`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from robust_compress.models import boxes as boxes_

TOP = 9  # candidates a level
MARGIN = 0.01  # pixels that a centre must be inside its box


class Candidates(NamedTuple):
  """For each of k boxes the m anchors that it may have."""

  index: jax.Array  # int32[k m], no anchor twice
  valid: jax.Array  # bool[k m]: there is such an anchor
  inside: jax.Array  # bool[k m]: its centre is inside the box


def candidates(anchors: jax.Array, visible: jax.Array, levels: tuple[int, ...], found: jax.Array) -> Candidates:
  """The nearest anchors of each level.

  Args:
    anchors: float32[n 4], level by level.
    visible: bool[n]: those within the picture.
    levels: how many anchors each level has; they add up to n.
    found: float32[k 4], boxes to be learned.
  """
  centre = boxes_.to_centres(anchors)[:, :2]
  distance = jnp.sqrt(jnp.square(boxes_.to_centres(found)[:, None, :2] - centre[None]).sum(-1))
  distance = jnp.where(visible, distance, jnp.inf)
  index, start = [], 0
  for n in levels:
    index.append(start + jax.lax.top_k(-distance[:, start : start + n], min(TOP, n))[1])
    start += n
  index = jnp.concatenate(index, 1)
  at = centre[index]
  margin = jnp.concatenate([at - found[:, None, :2], found[:, None, 2:] - at], -1).min(-1)
  return Candidates(index, visible[index], margin > MARGIN)


def cost(
  logits: jax.Array, predicted: jax.Array, found: jax.Array, labels: jax.Array, index: jax.Array, alpha: float
) -> jax.Array:
  """How well each candidate does: float32[k m].

  Args:
    logits: float32[n c] of classes; predicted: float32[n 4], boxes.
    found: float32[k 4]; labels: int32[k], -1 where there is none.
    index: int32[k m], anchors.
  """
  p = jax.nn.sigmoid(logits[index, jnp.maximum(labels, 0)[:, None]])
  overlap = boxes_.paired_iou(predicted[index], found[:, None])
  return p ** (1 - alpha) * overlap**alpha


def assign(near: Candidates, cost: jax.Array, wanted: jax.Array, n: int) -> jax.Array:
  """The box that each of n anchors learns, int32[n]: -1 for none. `wanted` bool[k] says which boxes there are."""
  n_valid = near.valid.sum(1, keepdims=True).astype(jnp.float32)
  mean = jnp.where(near.valid, cost, 0.0).sum(1, keepdims=True) / jnp.maximum(n_valid, 1)
  square = jnp.where(near.valid, jnp.square(cost - mean), 0.0).sum(1, keepdims=True)
  threshold = mean + jnp.sqrt(square / jnp.maximum(n_valid - 1, 1))
  positive = near.valid & near.inside & wanted[:, None] & (cost >= threshold)

  k = len(wanted)
  cost = jnp.where(positive, cost, -jnp.inf)
  best = jnp.full(n, -jnp.inf, jnp.float32).at[near.index].max(cost)
  box = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32)[:, None], near.index.shape)
  winner = jnp.full(n, k, jnp.int32).at[near.index].min(jnp.where(positive & (cost == best[near.index]), box, k))
  return jnp.where(winner < k, winner, -1)
