"""From what DDOD's head says to boxes: places, anchors, and the choice of MMDetection's test time.

    logits ─sigmoid─▶ p > 0.05 ─▶ the best 1000 of each level ─▶ p · IoU ─▶ suppression within classes ─▶ 100 boxes
    deltas ─▶ anchor + delta, cut off at the picture's edges ─────────────────────┘

The 1000 are chosen by p alone, as MMDetection has done since 2.18; before, the IoU was in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.models import boxes as boxes_

STRIDES = (8, 16, 32, 64, 128)
ANCHOR = 8  # strides
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of deltas
MIN_SCORE, N_LEVEL, MAX_IOU, N_BOXES = 0.05, 1000, 0.6, 100


class Raw(NamedTuple):
  """What the head says at all n places, level by level and row by row."""

  logits: jax.Array  # float32[b n k]
  deltas: jax.Array  # float32[b n 4]
  iou: jax.Array  # float32[b n], a logit
  levels: tuple[tuple[int, int], ...]  # heights and widths

  @property
  def counts(self) -> tuple[int, ...]:
    """Places of each level."""
    return tuple(h * w for h, w in self.levels)


def anchors(levels: tuple[tuple[int, int], ...]) -> np.ndarray:
  """float32[n 4]: squares of 8 strides about every multiple of the stride, not about the middle of its pixels."""
  found = []
  for (height, width), stride in zip(levels, STRIDES, strict=True):
    y, x = (grid.reshape(-1) * stride for grid in np.mgrid[:height, :width])
    half = ANCHOR * stride / 2
    found.append(np.stack([x - half, y - half, x + half, y + half], 1))
  return np.concatenate(found).astype(np.float32)


def decode(deltas: jax.Array, anchors: jax.Array) -> jax.Array:
  """Boxes float32[… 4] of deltas float32[… 4]."""
  return boxes_.decode(deltas, anchors, WEIGHTS, two_sided=True)


def _best(p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The largest numbers of p[n k], at most `N_LEVEL`: they, their rows and their columns.

  They lie in the rows with the largest maxima, so that not all n · k have to be sorted.
  """
  _, rows = jax.lax.top_k(p.max(1), min(N_LEVEL, len(p)))
  best, at = jax.lax.top_k(p[rows].reshape(-1), min(N_LEVEL, p.size))
  return best, rows[at // p.shape[1]], at % p.shape[1]


def detections(raw: Raw, visible: jax.Array, sizes: jax.Array) -> dict[str, jax.Array]:
  """What `dense.Detector` says, of the places that are `visible` bool[b n] in pictures of `sizes` int32[b 2]."""
  anchor = jnp.asarray(anchors(raw.levels))

  def one(logits: jax.Array, deltas: jax.Array, iou: jax.Array, visible: jax.Array, size: jax.Array) -> Any:
    p = jnp.where(visible[:, None], jax.nn.sigmoid(logits), 0.0)
    p = jnp.where(p > MIN_SCORE, p, 0.0)
    found, start = [], 0
    for n in raw.counts:
      best, at, label = _best(p[start : start + n])
      found.append((best, at + start, label))
      start += n
    score, place, label = (jnp.concatenate(parts) for parts in zip(*found, strict=True))
    box = boxes_.clip(decode(deltas[place], anchor[place]), size[0], size[1])
    there = (box[:, 2:] > box[:, :2]).all(1)
    score = jnp.where(there, score * jax.nn.sigmoid(iou[place]), 0.0)
    kept = boxes_.nms(box, score, label, MAX_IOU, N_BOXES)
    none = kept < 0
    return {
      "boxes": jnp.where(none[:, None], 0.0, box[kept]),
      "scores": jnp.where(none, 0.0, score[kept]),
      "labels": jnp.where(none, -1, label[kept]),
    }

  return jax.vmap(one)(raw.logits, raw.deltas, raw.iou, visible, sizes)
