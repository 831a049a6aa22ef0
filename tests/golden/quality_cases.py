"""Pairs of pictures, by numpy alone, that make_quality.py and the tests both build."""

import numpy as np

SHAPES = ((161, 161), (176, 200), (203, 255), (320, 192))  # odd sides at several scales
KINDS = ("noise", "shift", "coarse", "negative", "dark")


def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
  """uint8[1 h w 3] twice: a picture with edges and texture, and what became of it."""
  height, width = SHAPES[index % len(SHAPES)]
  rng = np.random.default_rng(index)
  y, x = np.mgrid[:height, :width] / 40.0
  waves = np.sin(x[..., None] * (1 + np.arange(3)) + y[..., None])
  picture = 128 + 60 * waves + 30 * (x + y > 5)[..., None] + rng.normal(0, 9, (height, width, 3))
  changed = {
    "noise": picture + rng.normal(0, 20, picture.shape),
    "shift": np.roll(picture, 1, axis=1),
    "coarse": np.round(picture / 32) * 32,
    "negative": 255 - picture,  # contrast terms below zero
    "dark": picture * 0.6 + 5,
  }[KINDS[index % len(KINDS)]]
  return tuple(np.clip(clip[None], 0, 255).astype(np.uint8) for clip in (picture, changed))


N_CASES = len(SHAPES) * len(KINDS)
