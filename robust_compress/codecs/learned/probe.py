"""What a network that is being trained costs in real bytes, beside what it estimates.

variables ──▶ encode some pictures at the first, middle and last level ──▶ coded_bpp, coded_psnr
                                          bits by its own probabilities ──▶ coded_over_estimated
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from robust_compress.codecs.learned import picture, weights
from robust_compress.codecs.learned.programs import Programs

if TYPE_CHECKING:
  from robust_compress.codecs.learned.training import Trainee


class Probe:
  """Variables to {'coded_bpp', 'coded_psnr', 'coded_over_estimated'}: means over pictures and levels, headers paid for.

  Raises WeightsError and CodecError for variables that cannot code.
  """

  def __init__(self, model: Trainee, clips: Sequence[np.ndarray]) -> None:
    self._network, self._clips = model.network, [clip[0] for clip in clips]
    self._levels = sorted({0, len(model.lambdas) // 2, len(model.lambdas) - 1})
    self._programs: Programs | None = None  # compiled by the first call
    module = model.module()

    def bits(variables: Any, x: jax.Array, level: jax.Array) -> jax.Array:
      return module.apply(variables, x, "round", model.as_level(level)).bits()

    self._bits = jax.jit(bits)

  def __call__(self, variables: Mapping[str, Any]) -> dict[str, float]:
    loaded = weights.from_variables(self._network, variables)
    if self._programs is None:
      self._programs = Programs(loaded)
    else:
      self._programs.exchange(loaded)
    found = [self._one(variables, frame, level) for frame, level in itertools.product(self._clips, self._levels)]
    n_bits, estimated, n_pixels, psnr = np.transpose(found)
    return {
      "coded_bpp": float((n_bits / n_pixels).mean()),
      "coded_psnr": float(psnr.mean()),
      "coded_over_estimated": float(n_bits.sum() / estimated.sum()),
    }

  def _one(self, variables: Mapping[str, Any], frame: np.ndarray, level: int) -> tuple[float, float, float, float]:
    """(bits of the blob, bits estimated, pixels, PSNR in dB) of uint8[h w 3] at the level of a row of gains."""
    blob, decoded = picture.encode(self._programs, frame, level + 1, "constriction", reconstruct=True)
    error = np.square(frame.astype(np.float64) - decoded).mean() / 255**2
    whole = picture.padded(self._programs, frame).astype(np.float32) / 255
    estimated = float(self._bits(variables, whole[None], np.full(1, level, np.float32))[0])
    return 8 * len(blob), estimated, frame[..., 0].size, -10 * float(np.log10(max(error, 1e-10)))
