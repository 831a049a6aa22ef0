"""MS-SSIM with a gradient: what a codec is trained on that is to look well (Wang, Simoncelli and Bovik 2003).

It is computed as `inspect.quality.ms_ssim` scores clips, which pytorch-msssim agrees with; a test holds the two equal.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MIN_SIDE = 161  # below it the fifth scale is smaller than the window
_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], np.float32)  # of the scales, fine to coarse
_RADIUS, _SIGMA = 5, 1.5
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1.0) ** 2) / (2 * _SIGMA**2))
_WINDOW = (_WINDOW / _WINDOW.sum()).astype(np.float32)
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(x: jax.Array, y: jax.Array) -> jax.Array:
  """Of float32[b h w 3] pictures in 0…1: float32[b], the mean over channels. Raises ValueError under `MIN_SIDE`."""
  if min(x.shape[1:3]) < MIN_SIDE:
    raise ValueError(f"MS-SSIM of {x.shape[2]}x{x.shape[1]} pictures is not defined; expected sides from {MIN_SIDE}")
  product = jnp.ones((x.shape[0], x.shape[-1]), jnp.float32)
  for scale, weight in enumerate(_WEIGHTS):
    if scale:
      x, y = _halved(x), _halved(y)
    similarity, contrast = _ssim(x, y)
    term = contrast if scale < len(_WEIGHTS) - 1 else similarity
    product = product * jnp.maximum(term, 1e-6) ** weight  # the gradient of a root at zero is not finite
  return product.mean(-1)


def _ssim(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(mean SSIM, mean of its contrast and structure term), float32[b c] each."""
  mean_x, mean_y, mean_xx, mean_yy, mean_xy = (_blurred(z) for z in (x, y, x * x, y * y, x * y))
  product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
  contrast = (2 * (mean_xy - product) + _C2) / (mean_xx + mean_yy - squares + _C2)
  similarity = (2 * product + _C1) / (squares + _C1) * contrast
  return similarity.mean((1, 2)), contrast.mean((1, 2))


def _blurred(x: jax.Array) -> jax.Array:
  """The Gaussian mean of [b h w c] at the places where its window fits."""
  channels = x.shape[-1]
  for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
    kernel = jnp.tile(jnp.asarray(_WINDOW).reshape(shape), (1, 1, 1, channels))
    x = lax.conv_general_dilated(
      x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=channels
    )
  return x


def _halved(x: jax.Array) -> jax.Array:
  """Means of 2×2 samples, a row or column of zeros before an odd side."""
  x = jnp.pad(x, ((0, 0), *((side % 2, 0) for side in x.shape[1:3]), (0, 0)))
  return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
