"""A detector of 0.4 M parameters for small machines: no anchors, one prediction for every 8×8 pixels.

image[b h w 3] ─conv /2─conv /2─▶ block 64 /2 ─┬─▶ block 128 /2 ─1×1─dilated 3×3─┐
                                               └─1×1──────(+)◀──── twice as large ┘
                                                           └─3×3─3×3─▶ class logits[b n k], boxes[b n 4]

The encoder is `nano`'s, names included, so training may start from a classifier's file. A location learns the smallest
box whose middle is near (centre sampling of FCOS, Tian et al. 2019, arXiv:1904.01355); a box is the offset of its
middle and the logarithm of its sides. Logits learn by focal loss how well the location's own box fits (quality focal
loss, Li et al. 2020, arXiv:2006.04388), by which suppression then ranks. About 90 M multiply-adds at 160×160.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from robust_compress import convert
from robust_compress.models import boxes as geometry
from robust_compress.models.layers import BatchNorm, Conv, dense_init
from robust_compress.models.nano import ENCODER_RULES, encoded
from robust_compress.models.resnet import conv_layer
from robust_compress.types import SpecError

STRIDE = 8  # pixels from one location to the next
SIDE = 32.0  # pixels, of a box whose logarithms are zero
REACH = 1.5  # strides from the middle of a box, within which locations inside it learn it
PRIOR = 0.01  # score of every class before training
N_CANDIDATES, N_BOXES = 300, 100  # before and after non-maximum suppression
OVERLAP, LEAST = 0.6, 0.01  # IoU beyond which a box of a class suppresses another; the least score that is told


class NanoDetector(nn.Module):
  """A detector network (`models/dense.py`) for pictures whose sides are multiples of 16. `dropout` is on the neck."""

  n_classes: int = 10
  widths: tuple[int, int] = (64, 128)
  neck: int = 48
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, image: jax.Array, sizes: jax.Array, targets: Mapping[str, Any] | None, train: bool) -> dict:
    if image.shape[1] % 16 or image.shape[2] % 16:
      height, width = image.shape[1:3]
      raise SpecError(f"nano_det: an input of {width}x{height}; sides are multiples of 16 (crop_size, resize, crop)")
    logits, boxes = self._predict(image, train)
    centres = locations(*image.shape[1:3])
    boxes = decode(boxes, centres)
    inside = (centres[None, :, ::-1] < sizes[:, None].astype(jnp.float32)).all(-1)
    if train and targets is not None:
      return {"losses": losses(logits, boxes, centres, inside, targets)}
    scores = jnp.where(inside[..., None], nn.sigmoid(logits), 0.0)
    return jax.vmap(select)(scores, boxes, sizes)

  def _predict(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    """float32[b n k] and float32[b n 4], n locations in reading order."""
    conv, norm = partial(conv_layer, dtype=self.dtype), partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)

    def unit(x: jax.Array, size: int, dilation: int, i: int) -> jax.Array:
      x = conv(self.neck, size, 1, dilation, name=f"neck_conv{i}")(x)
      return nn.relu(norm(name=f"neck_bn{i}")(x, train))

    _, fine, coarse = encoded(x, train, self.widths, conv, norm, self.dtype)
    coarse = unit(unit(coarse, 1, 1, 1), 3, 2, 2)
    x = unit(fine, 1, 1, 3) + coarse.repeat(2, axis=1).repeat(2, axis=2)
    x = unit(unit(x, 3, 1, 4), 3, 1, 5)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    prior = nn.initializers.constant(math.log(PRIOR / (1 - PRIOR)))
    head = partial(Conv, kernel_size=(3, 3), padding=1, dtype=self.dtype, kernel_init=dense_init)
    found = head(self.n_classes, bias_init=prior, name="classes")(x), head(4, name="boxes")(x)
    logits, boxes = (y.reshape(y.shape[0], -1, y.shape[-1]).astype(jnp.float32) for y in found)
    return logits, boxes


def locations(height: int, width: int) -> jax.Array:
  """float32[n 2]: x, y of the middle of every cell, in reading order."""
  y, x = (STRIDE * (jnp.arange(n // STRIDE, dtype=jnp.float32) + 0.5) for n in (height, width))
  return jnp.stack(jnp.broadcast_arrays(x[None], y[:, None]), -1).reshape(-1, 2)


def decode(raw: jax.Array, centres: jax.Array) -> jax.Array:
  """[… n 4] of the head to boxes [… n 4], x0 y0 x1 y1 in pixels. Sides are kept between 0.6 and 1750 pixels."""
  sides = SIDE * jnp.exp(jnp.clip(raw[..., 2:], -4.0, 4.0))
  return geometry.from_centres(jnp.concatenate([centres + STRIDE * raw[..., :2], sides], -1))


def select(scores: jax.Array, boxes: jax.Array, size: jax.Array) -> dict[str, jax.Array]:
  """Scores [n k] and boxes [n 4] of one picture to its detections, best first."""
  n_classes = scores.shape[1]
  best, at = jax.lax.top_k(scores.reshape(-1), min(N_CANDIDATES, scores.size))
  boxes, labels = geometry.clip(boxes[at // n_classes], size[0], size[1]), (at % n_classes).astype(jnp.int32)
  kept = geometry.nms(boxes, jnp.where(best < LEAST, 0.0, best), labels, OVERLAP, N_BOXES)
  told = kept >= 0
  return {
    "boxes": jnp.where(told[:, None], boxes[kept], 0.0),
    "scores": jnp.where(told, best[kept], 0.0),
    "labels": jnp.where(told, labels[kept], -1),
  }


def losses(
  logits: jax.Array, boxes: jax.Array, centres: jax.Array, inside: jax.Array, targets: Mapping[str, jax.Array]
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Terms of n locations' logits [b n k] and boxes [b n 4]; those not `inside` [b n] the picture teach nothing.

  A mean is over the locations that learn a box, and one more a picture: so pictures without objects have a weight too.
  """
  real, kinds = targets["boxes"], targets["box_kinds"].astype(jnp.int32)
  rows = targets["mask"][:, None]
  at, learns = jax.vmap(partial(assign, centres=centres))(real, (kinds == 0) & (targets["box_labels"] >= 0))
  learns &= rows
  wanted = jnp.take_along_axis(real, at[..., None], 1)
  labels = jnp.take_along_axis(targets["box_labels"], at, 1)
  quality = jnp.where(learns, jax.lax.stop_gradient(geometry.paired_iou(boxes, wanted)), 0.0)
  goal = jax.nn.one_hot(labels, logits.shape[-1]) * quality[..., None]
  focal = jnp.square(nn.sigmoid(logits) - goal) * optax.sigmoid_binary_cross_entropy(logits, goal)
  counts = rows & inside & (learns | ~jax.vmap(partial(covered, centres=centres))(real, kinds != 0))
  weight = learns.sum(dtype=jnp.float32) + rows.sum(dtype=jnp.float32)
  return {
    "class": (jnp.where(counts, focal.sum(-1), 0.0).sum(), weight),
    "box": (jnp.where(learns, 1 - geometry.paired_giou(boxes, wanted), 0.0).sum(), weight),
  }


def assign(boxes: jax.Array, valid: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(int32[n]: which of k boxes each of n locations learns, bool[n]: whether it learns one).

  The cell that has the middle of a box learns it however small it is, and those near that lie within it do too.
  """
  distance = jnp.abs(centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).max(-1)
  near = (distance < REACH * STRIDE) & _within(boxes, centres)
  learns = valid & (near | (distance <= STRIDE / 2))
  smallest = jnp.where(learns, geometry.area(boxes), jnp.inf).argmin(1)
  return smallest.astype(jnp.int32), learns.any(1)


def covered(boxes: jax.Array, chosen: jax.Array, centres: jax.Array) -> jax.Array:
  """bool[n]: which locations lie within a chosen box: a crowd, say, where nothing can be called background."""
  return (chosen & _within(boxes, centres)).any(1)


def _within(boxes: jax.Array, centres: jax.Array) -> jax.Array:
  """bool[n k]."""
  return ((centres[:, None] > boxes[:, :2]) & (centres[:, None] < boxes[:, 2:])).all(-1)


nano_detector = NanoDetector

RULES = (
  *ENCODER_RULES,
  *convert.conv("neck.conv{i}", "neck_conv{i}"),
  *convert.batch_norm("neck.bn{i}", "neck_bn{i}"),
  *convert.conv("classes", bias=True),
  *convert.conv("boxes", bias=True),
)
