"""Colours changed at random, as detectors and segmenters are trained with.

    brightness ─▶ contrast ─▶ saturation, hue ─▶ contrast      each with probability ½, contrast first or last

The photometric distortion of SSD (Liu et al. 2016, arXiv:1512.02325), which MMSegmentation's training too uses.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

BRIGHTNESS, SPREAD, HUE = 32.0, 0.5, 18.0  # grey levels; of contrast and saturation about 1; degrees


def distorted(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
  """uint8[… h w 3], all frames alike, with changes of up to `strength` times SSD's."""
  changed = image.astype(np.float32)
  if rng.random() < 0.5:
    changed += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS) * strength)
  first, contrast = rng.random() < 0.5, _factor(rng, strength)
  if first:
    changed *= contrast
  saturation, hue = _factor(rng, strength), rng.uniform(-HUE, HUE) * strength if rng.random() < 0.5 else 0.0
  changed = _toned(_to_uint8(changed), saturation, hue).astype(np.float32)
  return _to_uint8(changed if first else changed * contrast)


def _factor(rng: np.random.Generator, strength: float) -> np.float32:
  drawn = 1 + rng.uniform(-SPREAD, SPREAD) * strength
  return np.float32(drawn if rng.random() < 0.5 else 1.0)


def _toned(image: np.ndarray, saturation: np.float32, hue: float) -> np.ndarray:
  """uint8[… 3] with saturation times a number and hue turned by degrees."""
  if saturation == 1 and not hue:
    return image
  hsv = np.array(Image.fromarray(image.reshape(-1, image.shape[-2], 3)).convert("HSV"))
  hsv[..., 0] += np.uint8(round(hue / 360 * 256) % 256)  # a circle of 256 steps
  hsv[..., 1] = _to_uint8(hsv[..., 1] * saturation)
  return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")).reshape(image.shape)


def _to_uint8(values: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)
