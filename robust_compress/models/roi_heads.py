"""The second stage of Faster R-CNN, as torchvision has it: what each proposal holds, and where its edges are.

regions [n 7 7 c] ─(convolutions)─ fc6 ─(fc7)─┬─ cls_score ─▶ [n k], 0 being the background
                                              └─ bbox_pred ─▶ [n k 4]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models import boxes as boxes_
from robust_compress.models.iou_matching import Truth, balanced, box_loss, match, rows
from robust_compress.models.layers import Conv, conv_init
from robust_compress.models.rpn import Proposals

SMALLEST = 1e-2
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of deltas

_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Roi(NamedTuple):
  """How regions are chosen and learned."""

  suppression: float = 0.5
  least: float = 0.05  # probability
  n_detections: int = 100
  n_sampled: int = 512
  fraction: float = 0.25


class Regions(NamedTuple):
  """What the second stage learns from."""

  boxes: jax.Array  # float32[b n 4]
  labels: jax.Array  # int32[b n], 0 the background
  objects: jax.Array  # float32[b n 4]
  taken: jax.Array  # bool[b n]


class BoxHead(nn.Module):
  """Regions float32[m s s c] to (logits float32[m k], deltas float32[m k 4]).

  Attributes:
    convs: widths of 3×3 convolutions with `norm`, before the dense layers.
    dense: widths of the dense layers.
  """

  n_classes: int
  convs: tuple[int, ...] = ()
  dense: tuple[int, ...] = (1024, 1024)
  norm: Callable[..., nn.Module] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    x = x.astype(self.dtype)
    for i, width in enumerate(self.convs):
      options = {"padding": 1, "use_bias": False, "dtype": self.dtype, "kernel_init": conv_init}
      x = Conv(width, (3, 3), **options, name=f"conv_{i}")(x)
      x = nn.relu(self.norm(name=f"conv_{i}_bn")(x, train))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # the order of torchvision's weights
    dense = partial(nn.Dense, dtype=self.dtype, kernel_init=_init)
    for i, width in enumerate(self.dense, start=6):
      x = nn.relu(dense(width, name=f"fc{i}")(x))
    logits, deltas = (dense(self.n_classes * n, name=name)(x) for n, name in ((1, "cls_score"), (4, "bbox_pred")))
    return logits.astype(jnp.float32), deltas.astype(jnp.float32).reshape(len(x), -1, 4)


def regions(proposals: Proposals, truth: Truth, mask: jax.Array, options: Roi, rng: jax.Array) -> Regions:
  """A balanced sample of proposals and objects, with what each is to be: an IoU of a half makes a positive."""
  boxes = jnp.concatenate([proposals.boxes, truth.boxes], 1)
  present = jnp.concatenate([proposals.present, truth.present], 1) & mask[:, None]
  which, kinds = jax.vmap(partial(match, high=0.5, low=0.5, low_quality=False))(truth.boxes, truth.present, boxes)
  sample = balanced(rng, jnp.where(present, kinds, 0), options.n_sampled, options.fraction)
  which = rows(which, sample.index)
  labels = jnp.where(sample.positive, rows(truth.labels, which), 0)
  return Regions(rows(boxes, sample.index), labels, rows(truth.boxes, which), sample.taken)


def losses(logits: jax.Array, deltas: jax.Array, regions: Regions) -> dict[str, tuple[Any, Any]]:
  """Terms of the second stage, of logits[b n k] and deltas[b n k 4]: cross-entropy, and the own class's deltas."""
  own = regions.labels[..., None]
  entropy = -jnp.take_along_axis(jax.nn.log_softmax(logits), own, -1)[..., 0]
  total = regions.taken.sum(dtype=jnp.float32)
  found = jnp.take_along_axis(deltas, own[..., None], 2)[:, :, 0]
  regression = box_loss(found, regions.objects, regions.boxes, regions.taken & (regions.labels > 0), WEIGHTS)
  return {"classifier": (jnp.where(regions.taken, entropy, 0.0).sum(), total), "box_reg": (regression, total)}


def detect(
  logits: jax.Array, deltas: jax.Array, proposals: Proposals, sizes: jax.Array, options: Roi
) -> dict[str, jax.Array]:
  """The outputs of a detector, of logits[b n k] and deltas[b n k 4] for n proposals."""
  boxes = boxes_.decode(deltas[:, :, 1:], proposals.boxes[:, :, None], WEIGHTS)
  boxes = boxes_.clip(boxes, sizes[:, :1, None], sizes[:, 1:, None])
  scores = jax.nn.softmax(logits)[:, :, 1:]
  whole = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST).all(-1) & (scores > options.least)
  scores = jnp.where(whole & proposals.present[..., None], scores, 0.0)
  choose = partial(boxes_.best_by_class, threshold=options.suppression, n_out=options.n_detections)
  index = jax.vmap(choose)(boxes, scores)
  none, place = index < 0, jnp.maximum(index, 0)
  return {
    "boxes": jnp.where(none[..., None], 0.0, rows(boxes.reshape(len(boxes), -1, 4), place)),
    "scores": jnp.where(none, 0.0, rows(scores.reshape(len(scores), -1), place)),
    "labels": jnp.where(none, -1, place % scores.shape[2] + 1),
  }


def box_head_rules(n_convs: int = 0, foreign: str = "roi_heads.", ours: str = "box_head/") -> tuple[convert.Rule, ...]:
  """Rules under torchvision's keys; with convolutions its one dense layer is numbered after them and a flattening."""
  rules: list[convert.Rule] = []
  if n_convs:
    rules += convert.conv(f"{foreign}box_head.{{i}}.0", f"{ours}conv_{{i}}")
    rules += convert.batch_norm(f"{foreign}box_head.{{i}}.1", f"{ours}conv_{{i}}_bn")
    rules += convert.linear(f"{foreign}box_head.{n_convs + 1}", f"{ours}fc6")
  else:
    rules += convert.linear(f"{foreign}box_head.fc{{i}}", f"{ours}fc{{i}}")
  for part in ("cls_score", "bbox_pred"):
    rules += convert.linear(f"{foreign}box_predictor.{part}", f"{ours}{part}")
  return tuple(rules)
