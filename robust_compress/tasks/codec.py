"""A learned codec as a task: few bits and a near picture, as one loss.

    outputs: x_hat[b h w 3], bits[b], lambda[b], balance[b], auxiliary[]
      loss      balance · (bits / pixels + λ · distortion) + auxiliary
      records   bits, squared error, pixels ──compute──▶ psnr, estimated_bpp

The distortion is 255²·MSE, or 1 − MS-SSIM, as Ballé et al. 2018 and CompressAI weigh them; λ and the share of each
picture in the loss come with the outputs, since one network may serve many rates. Bits are what an ideal coder would
spend by the network's own probabilities. They stand on no rate axis: there, only bytes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.tasks.similarity import ms_ssim
from robust_compress.tasks.unmixed import Unmixed
from robust_compress.types import Arrays

MIN_SQUARED_ERROR = 1e-10  # of samples in 0…1: 100 dB, for pictures that come back whole


class Codec(Unmixed):
  """Rate and distortion. `distortion` is 'mse' or 'ms-ssim': what the loss weighs; both tasks score by PSNR."""

  version = "1"
  primary_metric = "psnr"
  higher_is_better = True

  def __init__(self, distortion: str = "mse"):
    self.distortion = distortion
    self.name = "codec" if distortion == "mse" else f"codec-{distortion}"

  def loss(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """{'rate', 'distortion', 'auxiliary'}: in bits per pixel, and what is worth one."""
    original, mask = _original(batch), _mask(batch)
    share = outputs["balance"] * mask
    if self.distortion == "mse":
      distortion = 255.0**2 * _squared_error(outputs, original)
    else:
      distortion = 1 - ms_ssim(outputs["x_hat"], original)
    return {
      "rate": ((share * outputs["bits"]).sum() / _n_pixels(original), mask.sum()),
      "distortion": ((share * outputs["lambda"] * distortion).sum(), mask.sum()),
      "auxiliary": (outputs["auxiliary"], jnp.float32(1)),
    }

  def monitor(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """{'estimated_bpp', 'psnr'} of the pictures as they are trained on, at whatever levels were drawn for them."""
    original, mask = _original(batch), _mask(batch)
    psnr = _psnr(_squared_error(outputs, original))
    return {
      "estimated_bpp": ((mask * outputs["bits"]).sum() / _n_pixels(original), mask.sum()),
      "psnr": ((mask * psnr).sum(), mask.sum()),
    }

  def predict(self, outputs: Any, batch: Arrays) -> Arrays:
    """{'bits', 'squared_error', 'n_pixels'}: float32[b]; the error as pictures are looked at, clipped to 0…1."""
    original = _original(batch)
    clipped = {"x_hat": jnp.clip(outputs["x_hat"], 0, 1)}
    n_pixels = jnp.full(original.shape[:1], _n_pixels(original), jnp.float32)
    return {"bits": outputs["bits"], "squared_error": _squared_error(clipped, original), "n_pixels": n_pixels}

  def as_targets(self, predictions: Arrays) -> dict[str, np.ndarray]:
    """There is no other truth than the picture that was fed."""
    return {}

  def statistics(self, predictions: Arrays, targets: Arrays) -> list[dict[str, np.ndarray]]:
    """What `predict` gave, a record a picture."""
    names = ("bits", "squared_error", "n_pixels")
    columns = [np.asarray(predictions[name], np.float32) for name in names]
    return [dict(zip(names, values)) for values in zip(*columns)]

  def compute(self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """{'psnr': mean over pictures, in dB; 'estimated_bpp': of all pictures together}."""
    if not len(records["bits"]):
      return {"psnr": float("nan"), "estimated_bpp": float("nan")}
    weights = np.ones(len(records["bits"])) if weights is None else weights
    error = np.maximum(np.asarray(records["squared_error"], np.float64), MIN_SQUARED_ERROR)
    bits, n_pixels = (float((weights * records[name]).sum()) for name in ("bits", "n_pixels"))
    return {"psnr": float(np.average(-10 * np.log10(error), weights=weights)), "estimated_bpp": bits / n_pixels}


def ms_ssim_codec() -> Codec:
  return Codec("ms-ssim")


def _original(batch: Arrays) -> jax.Array:
  return jnp.asarray(batch["image"]).astype(jnp.float32) / 255


def _mask(batch: Arrays) -> jax.Array:
  if "mask" in batch:
    return batch["mask"].astype(jnp.float32)
  return jnp.ones(batch["image"].shape[:1], jnp.float32)


def _n_pixels(image: jax.Array) -> float:
  return float(image.shape[1] * image.shape[2])


def _squared_error(outputs: Any, original: jax.Array) -> jax.Array:
  return jnp.square(outputs["x_hat"] - original).mean((1, 2, 3))


def _psnr(squared_error: jax.Array) -> jax.Array:
  return -10 * jnp.log10(jnp.maximum(squared_error, MIN_SQUARED_ERROR))
