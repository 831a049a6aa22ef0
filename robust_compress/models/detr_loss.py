"""What DETR is trained by: its queries are matched to the objects one to one, and each match is a class and a box.

    layer: logits[b q k+1], boxes[b q 4] ─cost─▶ hungarian.assign ─▶ query of each target
                                                  ├─▶ cross-entropy over all queries, no object weighing 0.1
                                                  └─▶ 5·L1 and 2·(1 − GIoU) of the matched boxes, a mean over objects

Every layer of the decoder has a match and a loss of its own. Constants are the paper's, arXiv:2005.12872.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from robust_compress.models import boxes as geometry
from robust_compress.models import hungarian

L1, GIOU = 5.0, 2.0  # weights beside the class's 1, in costs and in losses
NO_OBJECT = 0.1  # weight of a query without a match

Terms = dict[str, tuple[jax.Array, jax.Array]]


def losses(logits: jax.Array, boxes: jax.Array, sizes: jax.Array, targets: Mapping[str, jax.Array]) -> Terms:
  """Terms (sum, weight) of float32 logits[l b q k+1] and boxes[l b q 4], relative centres and sizes, of l layers.

  Those of the layers before the last are added up in 'auxiliary_…'. Weights depend on the targets alone.
  """
  labels, rows, n_queries = targets["box_labels"], targets["mask"], logits.shape[2]
  valid = (targets["box_kinds"] == 0) & (labels >= 0) & rows[:, None]
  scale = jnp.maximum(sizes, 1).astype(jnp.float32)[:, None, ::-1]
  goals = geometry.to_centres(targets["boxes"]) / jnp.concatenate([scale, scale], -1)

  def of_layer(logits: jax.Array, boxes: jax.Array) -> dict[str, jax.Array]:
    found = jax.vmap(_of_picture)(logits, boxes, labels, goals, valid)
    return {name: jnp.where(rows, value, 0.0).sum() for name, value in found.items()}

  sums = jax.vmap(of_layer)(logits, boxes)
  n = jnp.where(rows, jnp.minimum(valid.sum(1), n_queries), 0).astype(jnp.float32)
  of_classes = jnp.where(rows, n + NO_OBJECT * (n_queries - n), 0.0).sum()
  weights = {"class": of_classes, "l1": n.sum(), "giou": n.sum()}
  last = {name: (value[-1], weights[name]) for name, value in sums.items()}
  return last | {f"auxiliary_{name}": (value[:-1].sum(), weights[name]) for name, value in sums.items()}


def _of_picture(
  logits: jax.Array, boxes: jax.Array, labels: jax.Array, goals: jax.Array, valid: jax.Array
) -> dict[str, jax.Array]:
  """Sums over the queries of one layer: logits[q k+1], boxes[q 4] for labels[k], goals[k 4], valid[k]."""
  n_queries, no_object = logits.shape[0], logits.shape[1] - 1
  at = match(logits, boxes, labels, goals, valid)
  wanted = jnp.full(n_queries, no_object, jnp.int32)
  wanted = wanted.at[jnp.where(at < 0, n_queries, at)].set(labels, mode="drop")
  weight = jnp.where(wanted == no_object, NO_OBJECT, 1.0)
  surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[:, None], 1)[:, 0]
  overlap = geometry.paired_giou(geometry.from_centres(boxes[at]), geometry.from_centres(goals))
  return {
    "class": (weight * surprise).sum(),
    "l1": jnp.where(at < 0, 0.0, L1 * jnp.abs(boxes[at] - goals).sum(-1)).sum(),
    "giou": jnp.where(at < 0, 0.0, GIOU * (1 - overlap)).sum(),
  }


def match(logits: jax.Array, boxes: jax.Array, labels: jax.Array, goals: jax.Array, valid: jax.Array) -> jax.Array:
  """int32[k]: the query that answers for each valid target of a picture, −1 for the others."""
  share = jax.nn.softmax(logits)[:, labels].T  # k q
  distance = jnp.abs(goals[:, None] - boxes[None]).sum(-1)
  overlap = geometry.giou(geometry.from_centres(goals), geometry.from_centres(boxes))
  return hungarian.assign(L1 * distance - share - GIOU * overlap, valid)
