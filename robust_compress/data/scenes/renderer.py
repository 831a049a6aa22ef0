"""One renderer: a picture or a clip of a scene, and the truth about it for every task.

    render(scene, size, time) ──▶ Rendered: image, label, boxes, masks, depth, keypoints, flow

Nothing is computed before it is asked for: a classifier pays for pixels, a detector for pixels and boxes.
"""

from __future__ import annotations

import functools

import numpy as np

from robust_compress.data.scenes.camera import pixel_centres
from robust_compress.data.scenes.layers import Layer, Pose, lay_out
from robust_compress.data.scenes.painting import (
  backdrop_coordinates,
  cast_shadow,
  expose,
  noise_fields,
  paint_backdrop,
  paint_object,
)
from robust_compress.data.scenes.scene import CLASSES, CLUTTER_LABEL, Scene
from robust_compress.data.scenes.shapes import N_KEYPOINTS

VERSION = 1  # of everything that can change a pixel or a truth


class Rendered:
  """A scene at one moment, seen by a picture of `size` a side. Pixel (0, 0) has its centre at x = y = 0.5.

  Attributes that are arrays must not be written to: they are computed once and shared.
  """

  def __init__(self, scene: Scene, size: int = 160, time: float = 0.0):
    self.scene, self.size, self.time = scene, size, time
    self.view = scene.camera.at(time)

  @functools.cached_property
  def layers(self) -> list[Layer]:
    return lay_out(self.scene, self.size, self.time)

  @functools.cached_property
  def image(self) -> np.ndarray:
    """uint8[h w 3], sRGB."""
    fields = noise_fields(self.scene, self.size)
    pixels = paint_backdrop(self.scene, fields, self.view, self.size)
    for layer in self.layers:
      cast_shadow(pixels, layer, self.scene)
      paint_object(pixels, layer, self.scene, fields[0])
    return expose(pixels, self.scene, self.time)

  @property
  def label(self) -> int:
    """Class of the main object."""
    return self.scene.label

  @functools.cached_property
  def instances(self) -> np.ndarray:
    """uint16[h w]: i + 1 where scene.objects[i] covers at least half of the pixel and is in front, else 0."""
    mask = np.zeros((self.size, self.size), np.uint16)
    for layer in self.layers:
      frame, own = layer.inside(self.size)
      mask[frame][layer.coverage[own] >= 0.5] = layer.index + 1
    return mask

  @functools.cached_property
  def semantic(self) -> np.ndarray:
    """uint8[h w]: 0 for the backdrop, 1 + label for objects, the last of them (len(CLASSES) + 1) for clutter."""
    return np.array([0, *(1 + thing.label for thing in self.scene.objects)], np.uint8)[self.instances]

  @functools.cached_property
  def visible(self) -> tuple[int, ...]:
    """Indices of the objects with a class of which at least one pixel is seen: the order of boxes and keypoints."""
    seen = np.bincount(self.instances.ravel(), minlength=len(self.scene.objects) + 1)[1:]
    return tuple(i for i, thing in enumerate(self.scene.objects) if thing.label != CLUTTER_LABEL and seen[i])

  @property
  def labels(self) -> np.ndarray:
    """int32[n] of the visible objects."""
    return np.array([self.scene.objects[i].label for i in self.visible], np.int32)

  @property
  def boxes(self) -> np.ndarray:
    """float32[n 4]: x0, y0, x1, y1 in pixels, tight around what is seen of each visible object."""
    return np.array([_box(self.instances == i + 1) for i in self.visible], np.float32).reshape(-1, 4)

  @functools.cached_property
  def depth(self) -> np.ndarray:
    """float32[h w], metres."""
    _, _, backdrop = backdrop_coordinates(self.scene, self.view, self.size)
    poses = self._poses(self.time)
    nearness = np.array([0, *(pose.inverse_depth for pose in poses)], np.float32)[self.instances]
    return 1 / np.where(self.instances > 0, nearness, backdrop)

  @functools.cached_property
  def keypoints(self) -> np.ndarray:
    """float32[n 5 3] of the visible objects: x, y in pixels, and 2 where seen, 1 where hidden, 0 outside the picture.

    Names are the keys of `scene.objects[i].shape.keypoints`, in order.
    """
    poses = self._poses(self.time)
    rows = [self._keypoints(i, poses[i]) for i in self.visible]
    return np.array(rows, np.float32).reshape(-1, N_KEYPOINTS, 3)

  def flow(self, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Optical flow from this moment to `time`: float32[h w 2] in pixels (x, y), and bool[h w] where it can be seen.

    Every pixel has a flow; the second array is False where its point is hidden or out of the picture at `time`.
    """
    later = Rendered(self.scene, self.size, time)
    x, y, inverse_depth = backdrop_coordinates(self.scene, self.view, self.size)
    goal = np.stack(np.broadcast_arrays(*later.view.project(x, y, inverse_depth)), -1)
    before, after = self._poses(self.time), self._poses(time)
    centres = pixel_centres(0, self.size, self.size)
    for index in np.unique(self.instances[self.instances > 0]):
      rows, columns = np.nonzero(self.instances == index)
      local = before[index - 1].to_local(centres[columns], centres[rows])
      goal[rows, columns] = np.stack(after[index - 1].to_picture(*local), -1)
    start = np.stack(np.broadcast_arrays(centres, centres[:, None]), -1)
    landing = np.floor((goal + np.float32(0.5)) * self.size).astype(np.int32)
    inside = ((landing >= 0) & (landing < self.size)).all(-1)
    there = later.instances[tuple(np.clip(landing, 0, self.size - 1).transpose(2, 0, 1)[::-1])]
    return ((goal - start) * np.float32(self.size)).astype(np.float32), inside & (there == self.instances)

  def _poses(self, time: float) -> list[Pose]:
    view = self.scene.camera.at(time)
    return [Pose.of(thing, view, time) for thing in self.scene.objects]

  def _keypoints(self, index: int, pose: Pose) -> list[tuple[float, float, float]]:
    rows = []
    for u, v in self.scene.objects[index].shape.keypoints.values():
      x, y = ((p + np.float32(0.5)) * np.float32(self.size) for p in pose.to_picture(np.float32(u), np.float32(v)))
      inside = 0 <= x < self.size and 0 <= y < self.size
      seen = inside and self.instances[int(y), int(x)] == index + 1
      rows.append((x, y, int(inside) + int(seen)))
    return rows


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
  rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
  return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def render(scene: Scene, size: int = 160, time: float = 0.0) -> Rendered:
  """The scene at `time` (in frames), in a picture of `size` a side."""
  return Rendered(scene, size, time)


def render_clip(scene: Scene, size: int = 160, n_frames: int = 8, start: float = 0.0) -> list[Rendered]:
  """Consecutive frames; `np.stack([frame.image for frame in frames])` is the clip, uint8[t h w 3]."""
  return [render(scene, size, start + i) for i in range(n_frames)]


__all__ = ["CLASSES", "VERSION", "Rendered", "render", "render_clip"]
