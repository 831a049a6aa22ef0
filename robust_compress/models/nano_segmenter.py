"""A segmenter of 0.4 M parameters for small machines, whose features come together at a quarter of the picture's side.

image[b h w 3] ─conv /2─conv /2─┬─▶ block 64 /2 ─┬─▶ block 128 /2 ─1×1─┬─dilated 3×3─(+)
                                │                │                     └─mean───1×1───┘ ×2
                                │                └─1×1────────────────────(+)◀─────────┘
                                └─1×1─────────────────────────(+)◀─×2─3×3──┘
                                                               └─3×3─scores─×4─▶ logits[b h w k]

The encoder is `nano`'s, names included, so training may start from a classifier's file. The mean of the map says in
what surroundings a position lies (as in DeepLabV3), the way down is a feature pyramid's (Lin et al. 2017,
arXiv:1612.03144). About 140 M multiply-adds at 160×160.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models import sampling
from robust_compress.models.layers import BatchNorm, dense_init
from robust_compress.models.nano import ENCODER_RULES, encoded
from robust_compress.models.resnet import conv_layer


class NanoSegmenter(nn.Module):
  """A segmenter network (`models/dense.py`) for pictures of any size. `dropout` is on what the scores are made of."""

  n_classes: int = 11
  widths: tuple[int, int] = (64, 128)
  neck: int = 48
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
    conv, norm = partial(conv_layer, dtype=self.dtype), partial(BatchNorm, mode=self.batch_norm, dtype=self.dtype)
    size = x.shape[1:3]

    def unit(x: jax.Array, kernel: int, i: int, dilation: int = 1) -> jax.Array:
      x = conv(self.neck, kernel, 1, dilation, name=f"neck_conv{i}")(x)
      return nn.relu(norm(name=f"neck_bn{i}")(x, train))

    fine, middle, coarse = encoded(x, train, self.widths, conv, norm, self.dtype)
    x = unit(coarse, 1, 1)
    x = unit(x, 3, 2, dilation=2) + unit(x.mean((1, 2), keepdims=True), 1, 3)
    x = unit(middle, 1, 4) + sampling.resize(x, middle.shape[1:3])
    x = unit(fine, 1, 6) + sampling.resize(unit(x, 3, 5), fine.shape[1:3])
    x = nn.Dropout(self.dropout, deterministic=not train)(unit(x, 3, 7))
    x = nn.Conv(self.n_classes, (1, 1), dtype=self.dtype, kernel_init=dense_init, name="scores")(x)
    return {"logits": sampling.resize(x.astype(jnp.float32), size)}


nano_segmenter = NanoSegmenter

RULES = (
  *ENCODER_RULES,
  *convert.conv("neck.conv{i}", "neck_conv{i}"),
  *convert.batch_norm("neck.bn{i}", "neck_bn{i}"),
  *convert.conv("scores", bias=True),
)
