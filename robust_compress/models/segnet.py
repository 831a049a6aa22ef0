"""SegNet (Badrinarayanan et al. 2017, arXiv:1511.00561): VGG-16 up to its last pool, and its mirror image.

x[b h w 3] ─(conv─norm─relu)² … ³─pool /2─▶ … five times … ─▶ unpool ×2─(conv─norm─relu)³ … ²─▶ … five times … ─▶ logits
                                   └──────────── where each maximum was ─────────────┘

Unpooling puts a value where the maximum of its window was and zeros elsewhere. On odd sides a window hangs over, as in
Caffe: 45×60 becomes 23×30. Convolutions see blue first, in numbers from 0 to 255, and are called as in the published
Caffe model.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import convert
from robust_compress.models.layers import BatchNorm, Conv, conv_init
from robust_compress.types import IGNORED, Arrays, SpecError

DEPTHS = (2, 2, 3, 3, 3)
# Of CamVid's eleven classes: the median of their frequencies over each, as the published solver has them.
CAMVID_WEIGHTS = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
ENCODER = (*(f"conv{s}_{i}" for s in range(1, 6) for i in range(1, DEPTHS[s - 1] + 1)),)


class SegNet(nn.Module):
  """A segmenter network (`models/dense.py`): pictures float[b h w 3] of red, green and blue from 0 to 255, of any size.

  `dropout` is on what the middle pools leave, as in Bayesian SegNet; 0 in the published model.
  """

  n_classes: int = 11
  widths: tuple[int, ...] = (64, 128, 256, 512, 512)
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
    x, kept = x[..., ::-1].astype(self.dtype), []
    for stage, (depth, width) in enumerate(zip(DEPTHS, self.widths), start=1):
      for i in range(1, depth + 1):
        x = self._unit(x, width, f"conv{stage}_{i}", train)
      size = x.shape[1:3]
      x, at = pool(x)
      x = self._dropped(x, train) if stage > 2 else x
      kept.append((at, size))
    for stage in reversed(range(1, len(DEPTHS) + 1)):
      x = unpool(x, *kept.pop())
      for i in reversed(range(2, DEPTHS[stage - 1] + 1)):
        x = self._unit(x, self.widths[stage - 1], f"conv{stage}_{i}_D", train)
      if stage > 1:
        x = self._unit(x, self.widths[stage - 2], f"conv{stage}_1_D", train)
        x = self._dropped(x, train) if stage > 3 else x
    logits = _conv(self.n_classes, self.dtype, "conv1_1_D")(x)
    return {"logits": logits.astype(jnp.float32)}

  def _unit(self, x: jax.Array, width: int, name: str, train: bool) -> jax.Array:
    x = _conv(width, self.dtype, name)(x)
    return nn.relu(BatchNorm(self.batch_norm, dtype=self.dtype, name=f"{name}_bn")(x, train))

  def _dropped(self, x: jax.Array, train: bool) -> jax.Array:
    return nn.Dropout(self.dropout, deterministic=not train)(x)


def _conv(width: int, dtype: Any, name: str) -> nn.Conv:
  return Conv(width, (3, 3), padding=1, dtype=dtype, kernel_init=conv_init, name=name)


def pool(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Maxima of 2×2 windows of x[b h w c], [b ⌈h/2⌉ ⌈w/2⌉ c], and where in its window each was, uint8 from 0 to 3.

  Of equal ones it is the first in reading order, which alone gets the gradient.
  """
  bottom, right = x.shape[1] % 2, x.shape[2] % 2
  x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), constant_values=-jnp.inf)
  windows = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
  best, *others = map(jax.lax.stop_gradient, windows)
  at = jnp.zeros(best.shape, jnp.uint8)
  for i, other in enumerate(others, start=1):
    at = jnp.where(other > best, jnp.uint8(i), at)
    best = jnp.maximum(best, other)
  pooled = windows[0]
  for i, window in enumerate(windows[1:], start=1):
    pooled = jnp.where(at == i, window, pooled)
  return pooled, at


def unpool(x: jax.Array, at: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The inverse of `pool`, [b *size c]: zeros where no maximum was."""
  b, h, w, c = x.shape
  placed = [jnp.where(at == i, x, jnp.zeros_like(x)) for i in range(4)]
  rows = [jnp.stack(placed[i : i + 2], axis=3) for i in (0, 2)]  # b h w 2 c
  x = jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, c)
  return x[:, : size[0], : size[1]]


def camvid_loss(outputs: Arrays, batch: Arrays) -> dict[str, tuple[Any, Any]]:
  """The `ModelSpec.own_loss`: cross-entropy weighted by class, over the number of labelled pixels as in its Caffe.

  Raises SpecError for another number of classes than CamVid's.
  """
  logits, labels = outputs["logits"], jnp.asarray(batch["segmentation"]).astype(jnp.int32)
  if logits.shape[-1] != len(CAMVID_WEIGHTS):
    raise SpecError(
      f"SegNet's loss weighs CamVid's {len(CAMVID_WEIGHTS)} classes and the network has {logits.shape[-1]}; leave "
      "n_classes as it is"
    )
  counts = labels != IGNORED
  if "mask" in batch:
    counts &= jnp.asarray(batch["mask"])[:, None, None]
  chosen = jax.nn.one_hot(jnp.where(counts, labels, 0), logits.shape[-1], dtype=jnp.float32)
  weighed = chosen * np.asarray(CAMVID_WEIGHTS, np.float32) * jax.nn.log_softmax(logits)
  return {"cross_entropy": (-jnp.where(counts, weighed.sum(-1), 0.0).sum(), counts.sum(dtype=jnp.float32))}


def _rules() -> tuple[convert.Rule, ...]:
  """The Caffe model's names, in PyTorch's layout."""
  return tuple(
    rule
    for key in ("conv{s}_{i}", "conv{s}_{i}_D")
    for rule in (*convert.conv(key, bias=True), *convert.batch_norm(f"{key}_bn"))
  )


def _vgg_rules(positions: tuple[int, ...], batch_norm: bool) -> tuple[convert.Rule, ...]:
  """The encoder from torchvision's VGG-16, whose convolutions stand at `positions` and see red first."""
  rules: list[convert.Rule] = []
  for position, name in zip(positions, ENCODER):
    transform = "conv_bgr" if position == 0 else "conv"
    rules.append(convert.Rule(f"features.{position}.weight", f"params/{name}/kernel", transform))
    rules.append(convert.Rule(f"features.{position}.bias", f"params/{name}/bias"))
    rules += convert.batch_norm(f"features.{position + 1}", f"{name}_bn") if batch_norm else ()
  return tuple(rules)


segnet = SegNet
segnet_cityscapes = partial(SegNet, n_classes=19)

RULES = _rules()
# The two number their layers differently, so that one table cannot read both.
VGG_BN_READING = (*RULES, *_vgg_rules((0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40), True))
VGG_READING = (*RULES, *_vgg_rules((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), False))
