"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360), as torchvision has it.

x[b h w 3] ─conv 7×7 /2─▶ pool ─▶ fire ×3 ─▶ pool ─▶ fire ×4 ─▶ pool ─▶ fire ─dropout─conv 1×1─ReLU─mean─▶ [b k]

fire:  x ─ squeeze 1×1 ─┬─ expand 1×1 ─┬─ concatenate ─▶          ReLU after every convolution; no norm
                        └─ expand 3×3 ─┘
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress import convert
from robust_compress.models.depthwise import PointwiseConv
from robust_compress.models.layers import Conv, conv_init
from robust_compress.models.pooling import max_pool
from robust_compress.models.stem import StemConv

# After torchvision's place in `features`: channels squeezed to, and of each of the two expansions.
FIRES = {3: (16, 64), 4: (16, 64), 5: (32, 128), 7: (32, 128), 8: (48, 192), 9: (48, 192), 10: (64, 256), 12: (64, 256)}
POOLS = (2, 6, 11)


class Fire(nn.Module):
  """[b h w c] to [b h w 2·expanded]."""

  squeezed: int
  expanded: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    pointwise = partial(PointwiseConv, use_bias=True, dtype=self.dtype)
    x = nn.relu(pointwise(self.squeezed, name="squeeze")(x))
    small = pointwise(self.expanded, name="expand1x1")(x)
    large = Conv(self.expanded, (3, 3), padding=1, dtype=self.dtype, kernel_init=conv_init, name="expand3x3")(x)
    return nn.relu(jnp.concatenate([small, large], axis=-1))


class SqueezeNet(nn.Module):
  """Normalised pictures float[b h w 3] to logits float32[b n_classes]. There is no batch norm to have a mode."""

  n_classes: int = 1000
  dtype: Any = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.5

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.relu(StemConv(96, 7, 0, use_bias=True, dtype=self.dtype, name="conv1")(x))
    for i in sorted((*FIRES, *POOLS)):
      x = _pool(x) if i in POOLS else Fire(*FIRES[i], self.dtype, name=f"fire{i}")(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.relu(PointwiseConv(self.n_classes, use_bias=True, dtype=self.dtype, name="classifier")(x))
    return x.astype(jnp.float32).mean((1, 2))


def _pool(x: jax.Array) -> jax.Array:
  """3×3 maximum, stride 2. Torch's ceil_mode: an even side gets one more window, which hangs over its end."""
  pads = tuple((0, 1 - n % 2) for n in x.shape[1:3])
  return max_pool(x, 3, 2, pads)


squeezenet1_0 = SqueezeNet

RULES = (
  *convert.conv("features.0", "conv1", bias=True),
  *convert.conv("features.{i}.squeeze", "fire{i}/squeeze", bias=True),
  *convert.conv("features.{i}.expand1x1", "fire{i}/expand1x1", bias=True),
  *convert.conv("features.{i}.expand3x3", "fire{i}/expand3x3", bias=True),
  *convert.conv("classifier.1", "classifier", bias=True),
)
