"""Where things are in the picture, and how they move.

    point (x, y) at depth z ──Motion──▶ (x', y') ──View: dolly, zoom, pan──▶ picture coordinates ──▶ pixels

Picture coordinates run from -0.5 to 0.5, x to the right and y downwards; the side of the picture is the unit. Points
are given by where a resting camera sees them and by their depth in metres, so the resting camera is the identity. The
camera pans and tilts (everything shifts alike), zooms (everything scales alike), and slides sideways on a dolly (the
near shifts more). All three invert in closed form, which makes optical flow exact.

Motion is periodic and starts from rest position at time 0; the unit of time is one frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robust_compress.data.scenes.draws import turn


@dataclass(frozen=True)
class Motion:
  """Swaying to and fro by at most twice `sway` picture sides, `spin` revolutions, `approach` fractions of the depth."""

  sway: tuple[float, float] = (0.0, 0.0)
  spin: float = 0.0
  approach: float = 0.0
  period: float = 24.0  # frames
  phase: float = 0.0  # of the period

  def swing(self, time: float) -> float:
    """In [-2, 2], 0 at time 0."""
    return turn(time / self.period + self.phase)[1] - turn(self.phase)[1]


@dataclass(frozen=True)
class Camera:
  """A camera that sways: `pan` picture sides, `zoom` fraction, `dolly` metres to the right."""

  pan: tuple[float, float] = (0.0, 0.0)
  zoom: float = 0.0
  dolly: float = 0.0
  motion: Motion = Motion()  # its timing

  def at(self, time: float) -> View:
    swing = self.motion.swing(time)
    return View(self.pan[0] * swing, self.pan[1] * swing, 1 + self.zoom * swing, self.dolly * swing)


@dataclass(frozen=True)
class View:
  """The camera at one moment."""

  x: float
  y: float
  zoom: float
  dolly: float

  def project(self, x, y, inverse_depth):
    """Points as a resting camera sees them (scalars or arrays) to picture coordinates."""
    return (x - self.dolly * inverse_depth) * self.zoom + self.x, y * self.zoom + self.y

  def unproject_row(self, y):
    """The y that a resting camera would see in row `y`: it does not depend on depth."""
    return (y - self.y) * (1 / self.zoom)

  def unproject_column(self, x, inverse_depth):
    """The x that a resting camera would see, of points in columns `x` at a known depth."""
    x = (x - self.x) * (1 / self.zoom)
    return x + self.dolly * inverse_depth if self.dolly else x  # one row serves all where depth does not matter


def pixel_centres(start: int, stop: int, size: int) -> np.ndarray:
  """float32[stop - start]: picture coordinates of the centres of pixels in a picture of `size` a side."""
  return (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / size) - np.float32(0.5)
