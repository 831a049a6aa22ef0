"""Principal components of 2×2 blocks: the linear transform that a start is made of, stage by stage.

[b h w c] ──2×2 blocks──▶ 4c numbers ──rotated to principal components──▶ the first n of them [b h/2 w/2 n] ──▶ …
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from robust_compress.starting.layers import noise


@dataclass(frozen=True)
class Stage:
  """One rotation of blocks of c channels, and what it made of the pictures."""

  basis: np.ndarray  # float64[4c k], the principal components, largest first
  centre: np.ndarray  # float64[4c], the mean of each channel, the same at all four places, as a bias can give it
  step: float  # of rounding: a layer gives components in steps, and takes them so
  y: np.ndarray  # float64[b h/2 w/2 width], the components, not yet in steps; zeros behind the first k

  @property
  def width(self) -> int:
    return self.y.shape[-1]

  @property
  def channels(self) -> int:
    return len(self.centre) // 4

  @property
  def places(self) -> list[tuple[int, int, np.ndarray]]:
    """(row, column, float64[c k]) of the four samples of a block."""
    parts = self.basis.reshape(4, self.channels, -1)
    return [(i, j, parts[2 * i + j]) for i in range(2) for j in range(2)]

  def sizes(self) -> np.ndarray:
    """float64[width], the mean size of each component, in steps."""
    return np.abs(self.y / self.step).mean((0, 1, 2))

  def kernel(self, rng: np.random.Generator, size: int, amount: float) -> np.ndarray:
    """float32[size size c width] of a convolution of stride two: noise, but for the four taps of a block.

    They begin at the middle of the kernel, since it is padded by size // 2.
    """
    kernel = noise(rng, (size, size, self.channels, self.width), amount)
    for i, j, part in self.places:
      kernel[size // 2 + i, size // 2 + j, :, : part.shape[1]] = part * (1 / self.step)
    return kernel.astype(np.float32)

  def bias(self) -> np.ndarray:
    """float64[width] beside that kernel; 0 for what is not used."""
    bias = -(self.centre @ self.basis) * (1 / self.step)
    return np.pad(bias, (0, self.width - len(bias)))


def stages(pictures: np.ndarray, widths: Sequence[int], step: float) -> Iterator[Stage]:
  """Those of a transform, each of what the one before made of float[b 2ᵏ·i 2ᵏ·j 3] pictures.

  Args:
    widths: channels that each of the k stages gives.
    step: of rounding behind the last.
  """
  x = pictures.astype(np.float64)
  for i, width in enumerate(widths):
    stage = _stage(_blocks(x), width, step if i == len(widths) - 1 else 1.0)
    yield stage
    x = stage.y


def _stage(blocks: np.ndarray, width: int, step: float) -> Stage:
  basis, centre = _components(blocks, width)
  y = (blocks - centre) @ basis
  unused = np.zeros((*y.shape[:-1], width - y.shape[-1]))
  return Stage(basis, centre, step, np.concatenate([y, unused], axis=-1))


def _blocks(x: np.ndarray) -> np.ndarray:
  """[b h w c] to [b h/2 w/2 4c], the samples of a 2×2 block side by side."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def _components(blocks: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
  """(basis of at most `width` components, centre), as of `Stage`."""
  flat = blocks.reshape(-1, blocks.shape[-1])
  centre = np.tile(flat.mean(0).reshape(4, -1).mean(0), 4)
  # The signs are LAPACK's, and may hang on its threads: a start is made once, and then is a file.
  values, vectors = np.linalg.eigh(np.cov(flat.T))
  return vectors[:, np.argsort(-values)[:width]], centre
