"""A user's own model, named in configs as 'own_models:tiny'."""

import flax.linen as nn
import jax.numpy as jnp

from robust_compress.models.layers import BatchNorm
from robust_compress.types import InputSpec, ModelSpec, Weights


class Tiny(nn.Module):
  """Two convolutions with batch norm, float[b 32 32 3] to logits float32[b 10]."""

  dtype: object = jnp.float32
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, train=False):
    for width in (8, 16):
      x = nn.Conv(width, (3, 3), 2, dtype=self.dtype)(x)
      x = nn.relu(BatchNorm(mode=self.batch_norm, dtype=self.dtype)(x, train))
    return nn.Dense(10)(x.mean((1, 2)).astype(jnp.float32))


tiny = ModelSpec(
  "own_models:tiny", "classification", Tiny, InputSpec((32, 32), None), Weights("random"), classes="source"
)
