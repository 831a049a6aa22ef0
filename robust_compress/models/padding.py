"""A network that does not see what its input is padded with: a picture in a large batch gets what it gets alone.

    inside(extent, canvas, map) ─▶ bool[b h w 1] ─┬─ zeros outside: inputs of convolutions, outputs of batch norm
                                                  └─ moments of group norm from inside alone

References feed one picture at a time, padded to a multiple of their stride; compiled, all pictures of a data set share
one shape. Zeros beyond the picture do not stay zeros behind a bias, and half of a group norm's pixels may be padding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_compress.models.deformable import DeformableConv
from robust_compress.models.layers import BatchNorm
from robust_compress.models.stem import StemConv


def rounded(sizes: jax.Array, multiple: int) -> jax.Array:
  """Heights and widths int32[b 2] as a reference pads them, each to the next multiple."""
  return (sizes + multiple - 1) // multiple * multiple


def inside(extent: jax.Array, canvas: tuple[int, int], shape: tuple[int, int]) -> jax.Array:
  """Where features of `shape` = (h, w) belong to a picture: bool[b h w 1].

  Args:
    extent: int32[b 2], height and width of each picture in the input.
    canvas: height and width of the input. A side is divided by a power of two, rounding up, for the features.
  """
  parts = []
  for axis in range(2):
    stride = 1
    while -(-canvas[axis] // stride) > shape[axis]:
      stride *= 2
    at = jnp.arange(shape[axis], dtype=jnp.int32) * stride
    parts.append(at[None] < extent[:, axis, None])
  return parts[0][:, :, None, None] & parts[1][:, None, :, None]


def unseen(extent: jax.Array, canvas: tuple[int, int]) -> AbstractContextManager[Any]:
  """Within it convolutions get zeros beyond `extent` (see `inside`), and batch norm gives them, at any depth."""

  def zeroed(x: jax.Array) -> jax.Array:
    return jnp.where(inside(extent, canvas, x.shape[1:3]), x, jnp.zeros((), x.dtype))

  def call(method: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, context: Any) -> Any:
    if context.method_name == "__call__" and isinstance(context.module, nn.Conv | StemConv | DeformableConv):
      return method(zeroed(args[0]), *args[1:], **kwargs)
    result = method(*args, **kwargs)
    return zeroed(result) if context.method_name == "__call__" and isinstance(context.module, BatchNorm) else result

  return nn.intercept_methods(call)


class GroupNorm(nn.Module):
  """torch.nn.GroupNorm over those pixels of x[b h w c] that are `inside` bool[b h w 1], to dtype[b h w c]."""

  groups: int = 32
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
    grouped = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
    weight = inside[..., None].astype(jnp.float32)
    n = jnp.maximum(weight.sum((1, 2, 4), keepdims=True), 1) * grouped.shape[-1]
    grouped = grouped - (grouped * weight).sum((1, 2, 4), keepdims=True) / n
    variance = (jnp.square(grouped) * weight).sum((1, 2, 4), keepdims=True) / n
    x = (grouped * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
    return (x * scale + bias).astype(self.dtype)
