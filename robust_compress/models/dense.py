"""Models whose outputs have a place in the picture: detectors and segmenters, bound to how they are fed.

    image uint8[b h w 3], place float32[b 6] ──normalise, zeros in the padding──▶ network ──▶ outputs

    detector    evaluated: boxes[b n 4] x0 y0 x1 y1 in pixels of the input, scores[b n], labels int32[b n], best first
                and -1 for none; trained: losses {name: (sum, weight)}, of its own matcher
    segmenter   logits float32[b h w k] of the input's size; trained with an auxiliary head also 'auxiliary', alike

`place` says where in the view a row's pixels lie (`geometry_ops.place`); its last two numbers are the height and width
of the picture in the input, beyond which there is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.types import Arrays, ModelSpec

BOXES = ("boxes", "box_labels", "box_kinds")  # what a detector learns from


@dataclass(frozen=True)
class DenseSpec(ModelSpec):
  """What detectors and segmenters share: padding is zero after normalisation, as everywhere in the references."""

  def sizes(self, batch: Arrays) -> jax.Array:
    """int32[b 2], height and width of each picture within the input; all of it where nothing says otherwise."""
    if "place" in batch:
      return jnp.asarray(batch["place"])[:, 4:].astype(jnp.int32)
    return jnp.broadcast_to(jnp.asarray(batch["image"].shape[1:3], jnp.int32), (batch["image"].shape[0], 2))

  def padded(self, batch: Arrays) -> jax.Array:
    """float32[b h w 3]: normalised, and zero in the padding."""
    image, sizes = self.normalise(batch["image"]), self.sizes(batch)
    rows, columns = (jnp.arange(n, dtype=jnp.int32) for n in image.shape[1:3])
    inside = (rows[None, :, None] < sizes[:, :1, None]) & (columns[None, None] < sizes[:, 1:, None])
    return jnp.where(inside[..., None], image, jnp.zeros_like(image))

  def run(self, variables: Any, arguments: tuple[Any, ...], train: bool, rngs: Any) -> tuple[Any, Any]:
    """The network's outputs and, when training, its collections."""
    if not train:
      return self.module().apply(variables, *arguments, train=False), {}
    mutable = [name for name in variables if name != "params"]
    return self.module().apply(variables, *arguments, train=True, mutable=mutable, rngs=rngs)


@dataclass(frozen=True)
class Detector(DenseSpec):
  """Its network is called with (image[b h w 3], sizes int32[b 2], targets or None, train)."""

  def init(self, rng: Any) -> Any:
    """Random variables."""
    side = max(self.input.multiple, 64)  # parameters do not depend on the size of pictures
    image, sizes = np.zeros((1, side, side, 3), np.float32), np.full((1, 2), side, np.int32)
    return self.module().init({"params": rng, "dropout": rng}, image, sizes, None, train=False)

  def apply(self, variables: Any, batch: Arrays, *, train: bool = False, rngs: Any = None) -> tuple[Any, Any]:
    """Outputs as the head of this file has them."""
    targets = {name: batch[name] for name in BOXES} | {"mask": batch["mask"]} if train else None
    return self.run(variables, (self.padded(batch), self.sizes(batch), targets), train, rngs)


def own_loss(outputs: Mapping[str, Any], batch: Arrays) -> dict[str, tuple[Any, Any]]:
  """The `ModelSpec.own_loss` of a detector: its network has made the terms already."""
  return outputs["losses"]


@dataclass(frozen=True)
class Segmenter(DenseSpec):
  """Its network is called with (image[b h w 3], train), at any size.

  With `window` = (side, stride) a larger picture is seen through windows of that side, `stride` apart, the last of them
  shifted back inside, and logits are averaged where they overlap, as MMSegmentation's slide mode does.
  """

  window: tuple[int, int] | None = None

  def init(self, rng: Any) -> Any:
    """Random variables."""
    side = max(self.input.multiple, 64)
    return self.module().init({"params": rng, "dropout": rng}, np.zeros((1, side, side, 3), np.float32), train=False)

  def apply(self, variables: Any, batch: Arrays, *, train: bool = False, rngs: Any = None) -> tuple[Any, Any]:
    """Outputs as the head of this file has them."""
    image = self.padded(batch)
    if train or self.window is None or max(image.shape[1:3]) <= self.window[0]:
      return self.run(variables, (image,), train, rngs)
    return self._slid(variables, image), {}

  def _slid(self, variables: Any, image: jax.Array) -> dict[str, jax.Array]:
    side, stride = self.window or (0, 0)
    height, width = image.shape[1:3]
    high, wide = min(side, height), min(side, width)
    total, count = None, np.zeros((height, width, 1), np.float32)
    for top in starts(height, high, stride):
      for left in starts(width, wide, stride):
        outputs, _ = self.run(variables, (image[:, top : top + high, left : left + wide],), False, None)
        logits = outputs["logits"]
        pads = ((0, 0), (top, height - top - high), (left, width - left - wide), (0, 0))
        total = jnp.pad(logits, pads) if total is None else total + jnp.pad(logits, pads)
        count[top : top + high, left : left + wide] += 1
    return {"logits": total / count}


def starts(length: int, side: int, stride: int) -> list[int]:
  """Where windows of `side` begin that cover `length`: each a stride after the last, shifted back at the end."""
  n = max(length - side + stride - 1, 0) // stride + 1
  return [min(i * stride, length - side) for i in range(n)]
