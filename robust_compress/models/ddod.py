"""DDOD (Chen et al. 2021, arXiv:2107.02963) with ResNet-50, as MMDetection 3 has it (`ddod_r50_fpn_1x_coco`).

    x ─ResNet─▶ C3 C4 C5 ─pyramid─▶ P3 … P7, of strides 8 … 128, one square anchor of 8 strides at each place
    P ─┬─ deformable conv, 3 convs ─▶ class logits[b h w k]
       └─ deformable conv, 3 convs ─┬▶ deltas[b h w 4] from the anchor, times the level's scale
                                    └▶ logit[b h w 1] of the IoU that the box will have

    evaluated ─▶ `ddod_boxes.detections`        trained ─▶ `ddod_loss.losses`

The towers are shared by all levels. Pictures get what they would get alone (`padding.py`): MMDetection evaluates them
one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import convert
from robust_compress.models import ddod_loss, padding
from robust_compress.models.ddod_boxes import STRIDES, Raw, anchors, detections
from robust_compress.models.deformable import DeformableConv
from robust_compress.models.layers import Conv
from robust_compress.models.resnet import Trunk, trunk_rules

PRIOR = 0.01  # of a class, before anything is learned

small = nn.initializers.normal(0.01)


class DDOD(nn.Module):
  """Called as `dense.Detector` says.

  The numbers of anchors that learned on each level, over all of training, are in the collection 'counters'.
  """

  n_classes: int = 80
  depths: tuple[int, ...] = (3, 4, 6, 3)
  widths: tuple[int, ...] = (64, 128, 256, 512)
  channels: int = 256
  dtype: Any = jnp.float32
  batch_norm: str = "frozen"
  dropout: float = 0.0  # has none

  @nn.compact
  def __call__(
    self, image: jax.Array, sizes: jax.Array, targets: Mapping[str, jax.Array] | None = None, train: bool = False
  ) -> dict[str, Any]:
    canvas = image.shape[1:3]
    extent = padding.rounded(sizes, 32)
    with padding.unseen(extent, canvas):
      trunk = Trunk(self.depths, True, self.widths, dtype=self.dtype, batch_norm=self.batch_norm, name="backbone")
      features = Pyramid(self.channels, self.dtype, name="neck")(trunk(image.astype(self.dtype), train)[1:])
      visible = [padding.inside(extent, canvas, x.shape[1:3]) for x in features]
      raw = Head(self.n_classes, self.channels, self.dtype, name="bbox_head")(features, visible)
    visible = jnp.concatenate([x.reshape(len(image), -1) for x in visible], 1)
    positives = None
    if train or self.is_initializing():
      positives = self.variable("counters", "positives", jnp.zeros, len(STRIDES), jnp.float32)
    if targets is None or positives is None:
      return detections(raw, visible, sizes)
    losses, positives.value = ddod_loss.losses(raw, anchors(raw.levels), visible, targets, positives.value)
    return {"losses": losses}


class Pyramid(nn.Module):
  """Features of three stages, finest first, to five levels of `channels`; the last two follow from the third."""

  channels: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: list[jax.Array]) -> list[jax.Array]:
    def conv(x: jax.Array, size: int, stride: int, name: str) -> jax.Array:
      pad = (size // 2,) * 2
      init = nn.initializers.xavier_uniform()
      return Conv(self.channels, (size, size), stride, (pad, pad), dtype=self.dtype, kernel_init=init, name=name)(x)

    lateral = [conv(x, 1, 1, f"lateral_convs_{i}") for i, x in enumerate(features)]
    for i in range(len(lateral) - 1, 0, -1):
      above = lateral[i].repeat(2, 1).repeat(2, 2)
      lateral[i - 1] = lateral[i - 1] + above[:, : lateral[i - 1].shape[1], : lateral[i - 1].shape[2]]
    levels = [conv(x, 3, 1, f"fpn_convs_{i}") for i, x in enumerate(lateral)]
    for i in range(len(levels), len(STRIDES)):
      levels.append(conv(levels[-1], 3, 2, f"fpn_convs_{i}"))
    return levels


class Head(nn.Module):
  """Features of all levels, and which pixels of each are `visible` bool[b h w 1], to `Raw`."""

  n_classes: int
  channels: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: list[jax.Array], visible: list[jax.Array]) -> Raw:
    towers = {
      name: [Layer(self.channels, i == 0, self.dtype, name=f"{name}_convs_{i}") for i in range(4)]
      for name in ("cls", "reg")
    }
    prior = nn.initializers.constant(-np.log((1 - PRIOR) / PRIOR))
    out = {
      name: Conv(n, (3, 3), padding=1, dtype=self.dtype, kernel_init=small, bias_init=bias, name=f"atss_{name}")
      for name, n, bias in (
        ("cls", self.n_classes, prior),
        ("reg", 4, nn.initializers.zeros),
        ("iou", 1, nn.initializers.zeros),
      )
    }
    found: dict[str, list[jax.Array]] = {name: [] for name in out}
    for i, (x, inside) in enumerate(zip(features, visible, strict=True)):
      classes, boxes = (_through(towers[name], x, inside) for name in ("cls", "reg"))
      for name, y in (("cls", out["cls"](classes)), ("reg", out["reg"](boxes)), ("iou", out["iou"](boxes))):
        found[name].append(y.astype(jnp.float32).reshape(len(y), -1, y.shape[-1]))
      found["reg"][-1] *= self.param(f"scales_{i}", nn.initializers.ones, (), jnp.float32)
    logits, deltas, iou = (jnp.concatenate(found[name], 1) for name in ("cls", "reg", "iou"))
    return Raw(logits, deltas, iou[..., 0], tuple(x.shape[1:3] for x in features))


class Layer(nn.Module):
  """Convolution without bias, deformable where it is told so, group norm and ReLU."""

  channels: int
  deformable: bool
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
    if self.deformable:
      x = DeformableConv(self.channels, self.dtype, small, name="conv")(x)
    else:
      plain = {"padding": 1, "use_bias": False, "dtype": self.dtype, "kernel_init": small}
      x = Conv(self.channels, (3, 3), **plain, name="conv")(x)
    return nn.relu(padding.GroupNorm(32, dtype=self.dtype, name="gn")(x, inside))


def _through(tower: list[Layer], x: jax.Array, inside: jax.Array) -> jax.Array:
  for layer in tower:
    x = layer(x, inside)
  return x


def _head_rules() -> tuple[convert.Rule, ...]:
  rules: list[convert.Rule] = []
  for tower in ("cls", "reg"):
    foreign, ours = f"bbox_head.{tower}_convs.{{i}}", f"bbox_head/{tower}_convs_{{i}}"
    rules += convert.conv(f"{foreign}.conv", f"{ours}/conv")
    rules += convert.conv(f"{foreign}.conv.conv_offset", f"{ours}/conv/conv_offset", bias=True)
    rules += convert.layer_norm(f"{foreign}.gn", f"{ours}/gn")
  for name in ("cls", "reg", "iou"):
    rules += convert.conv(f"bbox_head.atss_{name}", bias=True)
  return (*rules, convert.Rule("bbox_head.scales.{i}.scale", "params/bbox_head/scales_{i}"))


RULES = (
  *trunk_rules("backbone.", "backbone/"),
  *convert.conv("neck.lateral_convs.{i}.conv", "neck/lateral_convs_{i}", bias=True),
  *convert.conv("neck.fpn_convs.{i}.conv", "neck/fpn_convs_{i}", bias=True),
  *_head_rules(),
  convert.Rule("", "counters/positives", "state"),
)
