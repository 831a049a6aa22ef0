"""Feature pyramid network (Lin et al. 2017, arXiv:1612.03144), as torchvision has it.

C2 ─lateral 1×1─(+)─ output 3×3 ─▶ P2
                 ▲ nearest
C3 ─lateral 1×1─(+)─ output 3×3 ─▶ P3        … P5 ─ every second ─▶ P6
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import convert
from robust_compress.models.layers import Conv

lateral_init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class FeaturePyramid(nn.Module):
  """Maps of a trunk, [float[b h w c], …] finest first, to as many of `width` channels and one of half the last's side.

  With `norm`, a batch norm after each convolution in place of its bias.
  """

  width: int = 256
  norm: Callable[..., nn.Module] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, maps: list[jax.Array], train: bool) -> list[jax.Array]:
    layer = partial(self._layer, train=train)
    found: list[jax.Array] = []
    inner = None
    for i in reversed(range(len(maps))):
      lateral = layer(maps[i], 1, f"inner_{i}")
      inner = lateral if inner is None else lateral + nearest(inner, lateral.shape[1], lateral.shape[2])
      found.insert(0, layer(inner, 3, f"layer_{i}"))
    return [*found, found[-1][:, ::2, ::2]]

  def _layer(self, x: jax.Array, size: int, name: str, train: bool) -> jax.Array:
    x = Conv(
      self.width, (size, size), padding=size // 2, use_bias=self.norm is None, dtype=self.dtype,
      kernel_init=lateral_init, name=name,
    )(x)  # fmt: skip
    return x if self.norm is None else self.norm(name=f"{name}_bn")(x, train)


def nearest(x: jax.Array, height: int, width: int) -> jax.Array:
  """x[b h w c] enlarged to [b height width c], each place taking what lies at or before it, as PyTorch's 'nearest'."""
  for axis, n in ((1, height), (2, width)):
    if n % x.shape[axis] == 0:
      x = jnp.repeat(x, n // x.shape[axis], axis)
    else:
      x = jnp.take(x, np.floor(np.arange(n) * (x.shape[axis] / n)).astype(np.int32), axis)
  return x


def fpn_rules(foreign: str = "backbone.fpn.", ours: str = "fpn/") -> tuple[convert.Rule, ...]:
  """Rules under torchvision's keys, with and without norms."""
  rules: list[convert.Rule] = []
  for part in ("inner", "layer"):
    rules += convert.conv(f"{foreign}{part}_blocks.{{i}}.0", f"{ours}{part}_{{i}}", bias=True)
    rules += convert.batch_norm(f"{foreign}{part}_blocks.{{i}}.1", f"{ours}{part}_{{i}}_bn")
  return tuple(rules)
