"""Which float32 arithmetic the processor has: entropy parameters are its numbers, and two kinds differ in last bits.

A blob of a mixture decodes only where every probability comes out the same to the bit. Gaussians are read from a table
of 64 rows, and so hardly ever hang on a last bit.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np

from robust_compress.types import CodecError


def host() -> Any:
  """The processor as jax's device. Raises CodecError where jax was told to leave it out."""
  import jax

  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise CodecError(
      "learned codecs: entropy parameters are computed on the processor, which jax was told to leave out; set "
      f"JAX_PLATFORMS={jax.config.jax_platforms},cpu"
    ) from error


@functools.cache
def fingerprint() -> str:
  """8 hexadecimal digits of some products, sums, roots and exponentials, one by one as compilers contract them.

  Equal on processors that compute alike, as x86 with AVX2 and with AVX-512 do as far as the compiler imitates them;
  others on those without fused multiplication.
  """
  import jax
  import jax.numpy as jnp

  from robust_compress.codecs.learned.networks.convolution import direct

  def computed(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    products = [direct(x[None], kernel, 1, ((1, 1), (1, 1))), x @ kernel[0, 0], x[0, :1] @ kernel[0, 0]]
    return [*products, x * x + 0.3 * x, jnp.exp(9 * x), jnp.tanh(x), jax.lax.rsqrt(jnp.abs(x) + 0.01)]

  with jax.default_device(host()):
    parts = jax.jit(computed)(_numbers(8, 8, 96), _numbers(3, 3, 96, 96))
  return f"{functools.reduce(lambda crc, part: zlib.crc32(np.asarray(part).tobytes(), crc), parts, 0):08x}"


def _numbers(*shape: int) -> np.ndarray:
  """float32 in −0.5…0.5, by integers alone."""
  scattered = np.arange(np.prod(shape), dtype=np.int64) * 2654435761 % 1009
  return (scattered.astype(np.float32) / np.float32(1009) - np.float32(0.5)).reshape(shape)
