"""What DDOD learns from: two assignments, three losses, and levels weighed by how seldom they learn.

    raw ─▶ cost, α .8 ─▶ anchors that learn a class ─▶ focal loss over all visible anchors      ┐ each level times
        └▶ cost, α .5 ─▶ anchors that learn a box ──▶ 2 · (1 − GIoU), cross-entropy of the IoU  ┘ 1 … 2

A level's weight is 2 − (n − min) / (max − min), n the anchors that have learned on it since training began. As in
MMDetection 3, both assignments add to the same n, the second after the weights of the class loss were taken.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_compress.models import atss
from robust_compress.models import boxes as boxes_
from robust_compress.models.ddod_boxes import WEIGHTS, Raw, decode
from robust_compress.models.layers import BATCH_AXIS

ALPHA_CLASS, ALPHA_BOX = 0.8, 0.5
FOCAL_GAMMA, FOCAL_ALPHA, BOX_WEIGHT = 2.0, 0.25, 2.0


def losses(
  raw: Raw, anchors: np.ndarray, visible: jax.Array, targets: Mapping[str, jax.Array], positives: jax.Array
) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array]:
  """({'class', 'box', 'iou': (sum, weight)}, positives).

  Args:
    raw: `Raw`, of n places.
    anchors: float32[n 4]; visible: bool[b n], those that learn anything.
    targets: as `dense.Detector` has them.
    positives: float32[levels], how many anchors have learned on each so far.
  """
  anchors, mask = jnp.asarray(anchors), targets["mask"]
  wanted = (targets["box_kinds"] == 0) & (targets["box_labels"] >= 0) & mask[:, None]
  for_class, for_box = assigned(raw, anchors, visible, targets["boxes"], targets["box_labels"], wanted)
  visible = visible & mask[:, None]

  positives, level_weight, n_class = _counted(positives, for_class, raw.counts)
  label = jnp.where(for_class >= 0, jnp.take_along_axis(targets["box_labels"], jnp.maximum(for_class, 0), 1), -1)
  focal = jnp.where(visible, _focal(raw.logits, label), 0.0) * level_weight

  positives, level_weight, n_box = _counted(positives, for_box, raw.counts)
  learns = for_box >= 0
  box = jnp.take_along_axis(targets["boxes"], jnp.maximum(for_box, 0)[..., None], 1)
  box = jnp.where(learns[..., None], box, anchors)
  target = decode(boxes_.encode(box, anchors, WEIGHTS), anchors)  # bounded as predictions are
  predicted = decode(jnp.where(learns[..., None], raw.deltas, 0.0), anchors)
  apart = jnp.where(learns, 1 - boxes_.paired_giou(predicted, target), 0.0) * level_weight
  reached = boxes_.paired_iou(jax.lax.stop_gradient(predicted), target)
  iou = jnp.where(learns, optax.sigmoid_binary_cross_entropy(raw.iou, reached), 0.0) * level_weight
  return {
    "class": (focal.sum(), n_class),
    "box": (BOX_WEIGHT * apart.sum(), n_box),
    "iou": (iou.sum(), n_box),
  }, positives


def assigned(
  raw: Raw, anchors: jax.Array, visible: jax.Array, found: jax.Array, labels: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The boxes whose class and whose place each anchor learns, int32[b n] each, -1 for none."""

  def one(logits: jax.Array, deltas: jax.Array, visible: jax.Array, *box: jax.Array) -> tuple[jax.Array, ...]:
    found, labels, wanted = box
    near = atss.candidates(anchors, visible, raw.counts, found)
    predicted = decode(deltas, anchors)
    costs = (atss.cost(logits, predicted, found, labels, near.index, alpha) for alpha in (ALPHA_CLASS, ALPHA_BOX))
    return tuple(atss.assign(near, cost, wanted, len(anchors)) for cost in costs)

  said = jax.lax.stop_gradient((raw.logits, raw.deltas))
  return jax.vmap(one)(*said, visible, found, labels, wanted)


def _counted(
  positives: jax.Array, assigned: jax.Array, counts: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """(positives with these, the weight of each place float32[n], what the loss is divided by)."""
  ends = np.cumsum(counts)[:-1].tolist()
  now = jnp.stack([(part >= 0).sum().astype(jnp.float32) for part in jnp.split(assigned, ends, axis=1)])
  total, n_devices = _over_devices(now)
  positives = positives + total
  least, most = positives.min(), positives.max()
  weight = 2 - (positives - least) / (most - least + 1e-10)
  share = jnp.where(total.sum() > 0, now.sum(), 1 / n_devices)  # without boxes the whole is divided by one
  return positives, jnp.concatenate([jnp.broadcast_to(weight[i], n) for i, n in enumerate(counts)]), share


def _over_devices(x: jax.Array) -> tuple[jax.Array, int]:
  """(sum over the devices of a mapped step, how many they are)."""
  try:
    return jax.lax.psum(x, BATCH_AXIS), jax.lax.axis_size(BATCH_AXIS)
  except NameError:  # not mapped
    return x, 1


def _focal(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Focal loss float32[… n] of logits[… n k], summed over classes; a label of -1 is no class (Lin et al. 2017)."""
  hit = label[..., None] == jnp.arange(logits.shape[-1], dtype=jnp.int32)
  p = jax.nn.sigmoid(logits)
  miss = jnp.where(hit, 1 - p, p)
  alpha = jnp.where(hit, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
  return (alpha * miss**FOCAL_GAMMA * optax.sigmoid_binary_cross_entropy(logits, hit.astype(jnp.float32))).sum(-1)
