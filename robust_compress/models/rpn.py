"""Region proposal network (Ren et al. 2015, arXiv:1506.01497) over a feature pyramid, as torchvision has it.

    maps ──3×3──▶ objectness, deltas ──anchors──▶ the best of each map ──suppression──▶ proposals, the best of all

Every picture has the anchors that it would have alone in a batch, padded to multiples of 32: torchvision measures so,
and its strides depend on that size. What lies beyond on a larger canvas takes no part.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import convert
from robust_compress.models import boxes as boxes_
from robust_compress.models.iou_matching import Truth, balanced, box_loss, match, rows
from robust_compress.models.layers import Conv

RATIOS = (0.5, 1.0, 2.0)  # height to width
DIVISOR = 32  # what torchvision pads to multiples of
SMALLEST = 1e-3

_init = nn.initializers.normal(0.01)


class Rpn(NamedTuple):
  """How proposals are chosen and learned, the numbers being (in training, in evaluation)."""

  anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))  # of each map
  n_before: tuple[int, int] = (2000, 1000)  # suppression, of each map
  n_after: tuple[int, int] = (2000, 1000)
  suppression: float = 0.7
  least: float = 0.0  # probability
  n_sampled: int = 256
  fraction: float = 0.5


class Raw(NamedTuple):
  """What the network says of every anchor, map by map."""

  logits: list[jax.Array]  # float32[b n]
  deltas: list[jax.Array]  # float32[b n 4]
  anchors: list[jax.Array]  # float32[b n 4]
  inside: list[jax.Array]  # bool[b n]: of the picture's own


class Proposals(NamedTuple):
  boxes: jax.Array  # float32[b n 4], best first
  present: jax.Array  # bool[b n]


class RpnHead(nn.Module):
  """[float[b h w c], …] to (logits [float32[b h·w·a], …], deltas [float32[b h·w·a 4], …])."""

  n_anchors: int
  depth: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, maps: list[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
    width, conv = maps[0].shape[-1], partial(Conv, dtype=self.dtype, kernel_init=_init)
    towers = [conv(width, (3, 3), padding=1, name=f"conv_{i}") for i in range(self.depth)]
    score, regress = (conv(self.n_anchors * n, (1, 1), name=name) for n, name in ((1, "cls_logits"), (4, "bbox_pred")))
    logits, deltas = [], []
    for x in maps:
      for tower in towers:
        x = nn.relu(tower(x))
      logits.append(score(x).astype(jnp.float32).reshape(len(x), -1))
      deltas.append(regress(x).astype(jnp.float32).reshape(len(x), -1, 4))
    return logits, deltas


def extents(sizes: jax.Array, strides: tuple[int, ...]) -> jax.Array:
  """int32[b l 2]: rows and columns of each map that pictures of sizes[b 2] have when padded on their own."""
  own = -(-sizes // DIVISOR) * DIVISOR
  steps = jnp.asarray(strides, jnp.int32)[None, :, None]
  return -(-own[:, None] // steps)


def base_anchors(sizes: tuple[int, ...]) -> np.ndarray:
  """float32[a 4] around zero, in whole pixels: every ratio with every size."""
  high = np.sqrt(np.asarray(RATIOS, np.float32))[:, None]
  size = np.asarray(sizes, np.float32)[None]
  w, h = ((factor * size).ravel() for factor in (1 / high, high))
  return np.round(np.stack([-w, -h, w, h], 1) / 2)


def anchors(
  maps: list[jax.Array], sizes: jax.Array, own: jax.Array, of: tuple[tuple[int, ...], ...]
) -> tuple[list[jax.Array], list[jax.Array]]:
  """([float32[b h·w·a 4], …], [bool[b h·w·a], …]): anchors of each place of each map, and whether they are inside.

  Args:
    maps: for their shapes.
    sizes: int32[b 2].
    own: int32[b l 2], of `extents`.
    of: the sizes of anchors, for each map.
  """
  padded = -(-sizes // DIVISOR) * DIVISOR
  found, inside = [], []
  for level, x in enumerate(maps):
    height, width = x.shape[1:3]
    base = jnp.asarray(base_anchors(of[level]))
    stride = padded // own[:, level]
    y, x = (jnp.arange(n, dtype=jnp.int32) for n in (height, width))
    down, right = ((n[None] * stride[:, i, None]).astype(jnp.float32) for i, n in enumerate((y, x)))
    down, right = jnp.broadcast_arrays(down[:, :, None], right[:, None])
    at = jnp.stack([right, down, right, down], -1)[:, :, :, None] + base
    found.append(at.reshape(len(sizes), -1, 4))
    there = (y[None, :, None] < own[:, level, 0, None, None]) & (x[None, None] < own[:, level, 1, None, None])
    inside.append(jnp.repeat(there.reshape(len(sizes), -1), len(base), 1))
  return found, inside


def propose(raw: Raw, sizes: jax.Array, options: Rpn, train: bool) -> Proposals:
  """The regions that the second stage looks at: the best of each map, suppressed map by map, then the best of all."""
  n_before, n_after = (n[not train] for n in (options.n_before, options.n_after))
  height, width = sizes[:, :1], sizes[:, 1:]
  candidates, scores = [], []
  most = min(n_before, max(x.shape[1] for x in raw.logits))
  for logits, deltas, anchor, inside in zip(*raw, strict=True):
    n = min(n_before, logits.shape[1])
    best, index = jax.lax.top_k(jnp.where(inside, logits, -jnp.inf), n)
    found = boxes_.clip(boxes_.decode(rows(deltas, index), rows(anchor, index)), height, width)
    score = jax.nn.sigmoid(best)
    whole = (found[..., 2:] - found[..., :2] >= SMALLEST).all(-1) & (score >= options.least)
    candidates.append(jnp.pad(found, ((0, 0), (0, most - n), (0, 0))))
    scores.append(jnp.pad(jnp.where(whole, score, 0.0), ((0, 0), (0, most - n))))
  boxes, score = jnp.stack(candidates, 1), jnp.stack(scores, 1)  # [b l n 4], [b l n]
  suppress = partial(boxes_.greedy, threshold=options.suppression)
  score = jnp.where(jax.vmap(jax.vmap(suppress))(boxes, score > 0), score, 0.0).reshape(len(sizes), -1)
  best, index = jax.lax.top_k(score, min(n_after, score.shape[1]))
  present = best > 0
  return Proposals(jnp.where(present[..., None], rows(boxes.reshape(len(sizes), -1, 4), index), 0.0), present)


def losses(raw: Raw, truth: Truth, mask: jax.Array, options: Rpn, rng: jax.Array) -> dict[str, tuple[Any, Any]]:
  """Terms of the first stage: objectness of a sample of anchors, deltas of its positives."""
  logits, deltas, anchor, inside = (jnp.concatenate(x, 1) for x in raw)
  closest = partial(match, high=0.7, low=0.3, low_quality=True)
  anchor_inside = jnp.where(inside[..., None], anchor, 0.0)  # an empty box overlaps nothing
  which, kinds = jax.vmap(closest)(truth.boxes, truth.present, anchor_inside)
  sample = balanced(rng, jnp.where(inside & mask[:, None], kinds, 0), options.n_sampled, options.fraction)
  scores, found, starts, object_ = (rows(x, sample.index) for x in (logits, deltas, anchor, which))
  sign = jnp.where(sample.positive, -scores, scores)
  objectness = jnp.where(sample.taken, jax.nn.softplus(sign), 0.0).sum()
  total = sample.taken.sum(dtype=jnp.float32)
  regression = box_loss(found, rows(truth.boxes, object_), starts, sample.positive, (1.0,) * 4)
  return {"objectness": (objectness, total), "rpn_box_reg": (regression, total)}


def rpn_rules(foreign: str = "rpn.head.", ours: str = "rpn/") -> tuple[convert.Rule, ...]:
  """Rules under torchvision's keys."""
  parts = {"conv.{i}.0": "conv_{i}", "cls_logits": "cls_logits", "bbox_pred": "bbox_pred"}
  return tuple(rule for a, b in parts.items() for rule in convert.conv(foreign + a, ours + b, bias=True))
