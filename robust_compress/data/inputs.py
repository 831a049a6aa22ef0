"""What the inputs of a model have in common: their shape, and how rows of unlike sizes become one array.

    clip ──made(geometry)──▶ uint8[h w 3] ──stacked──▶ uint8[b H W 3], black below and to the right of each
    segmentation uint8[h w] ──joined──▶ uint8[b H W], IGNORED there

Each shape is compiled, so there are few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from robust_compress.data import geometry_ops, image_ops, video_ops
from robust_compress.data.geometry_ops import Geometry, Size
from robust_compress.types import Clip, DataError, InputSpec, Source, SpecError, View, stack

CANVAS = 128  # segmentations of unlike sizes are scored on sides of such multiples


class Inputs:
  """The shape of all inputs.

  Frames are of the model's size under input=model, under input=asis of that of the first readable picture, in either
  case up to a multiple that the model asks for. Pictures of unlike sizes under fit='pad' have no one shape: each takes
  the smallest of a few canvases that holds it. Training needs one shape for all steps and hosts, and has the largest,
  or a square of `crop_size`. Where the view does not say of how many frames a clip is, a model of clips is fed as many
  as the first readable one has.

  Attributes:
    size: (h, w) of an input, that crops are brought to.
    canvas: what batches are padded to; None where that differs from batch to batch.
    placed: whether batches say where their pixels lie.
    example: the first readable target, for the names, dtypes and shapes of all; {} where there is none.

  Raises SpecError as `check_labelled` does.
  """

  def __init__(self, source: Source, input: InputSpec, view: View, train: bool = False, crop_size: int | None = None):
    check_labelled(source, input, view)
    self._n_frames, self._first = view.length or 1, ""
    self._input, self._view, self._train, self._cut = input, view, train, crop_size is not None
    size = tuple(input.size)
    if view.input == "asis" or (input.clips and view.length is None):
      for index in range(len(source)):
        try:
          self._n_frames, *found, _ = source.picture(index).clip.shape
        except DataError:
          continue  # told, or skipped, when its turn comes
        size, self._first = tuple(found) if view.input == "asis" else size, source.id(index)
        break
    self._seen = size if view.input == "asis" else _size_of(view)  # the one size of what the codec sees, if it has one
    self._canvases = self._possible(size) if crop_size is None else [(crop_size, crop_size)]
    self.size = self._canvases[-1]
    self.canvas = self.size if train or len(self._canvases) == 1 else None
    self.example = _first_target(source)
    self.placed = input.fit == "pad" or "size" in self.example

  def _possible(self, size: Size) -> list[Size]:
    spec, known = self._input, _size_of(self._view)
    if self._view.input == "asis":
      return [geometry_ops.rounded_up(size, spec.multiple)]
    if spec.fit != "pad":
      return [size]
    if known is not None:
      return [geometry_ops.rounded_up(geometry_ops.fitted(known, spec), spec.multiple)]
    return geometry_ops.canvases(spec)

  @property
  def shape(self) -> tuple[int, ...]:
    """Of one row's image, padded to the largest canvas."""
    return video_ops.arranged_shape(self._n_frames, self.size, self._input, self._view)

  @property
  def blank(self) -> np.ndarray:
    """The image of a row that is masked out."""
    size = self.canvas or (1, 1)
    return np.zeros(video_ops.arranged_shape(self._n_frames, size, self._input, self._view), np.uint8)

  def made(self, clip: Clip, geometry: Geometry) -> np.ndarray:
    """The pixels of a row."""
    frames = video_ops.fed(clip, self._input, self._view)
    return video_ops.arranged(image_ops.apply(frames, geometry, self._input.interpolation), self._input, self._view)

  def padded(self, image: np.ndarray, canvas: Size) -> np.ndarray:
    """[… h w 3] with black below and to the right."""
    height, width = image.shape[-3:-1]
    if (height, width) == canvas:
      return image
    geometry_ops.smallest([canvas], (height, width), "a picture")
    pads = [(0, 0)] * (image.ndim - 3) + [(0, canvas[0] - height), (0, canvas[1] - width), (0, 0)]
    return np.pad(image, pads)

  def canvas_of(self, image: np.ndarray, name: str) -> Size:
    """What one input is padded to. Raises DataError, with its name, where it is too large for any."""
    return geometry_ops.smallest(self._canvases, image.shape[-3:-1], name)

  def stacked(self, images: Sequence[np.ndarray]) -> np.ndarray:
    """The images of a batch, all padded to one canvas: where batches differ, to that of the first."""
    canvas = self.canvas or self.canvas_of(images[0], "a picture")
    return np.stack([self.padded(image, canvas) for image in images])

  def joined(self, name: str, values: Sequence[np.ndarray]) -> np.ndarray:
    """One kind of target of a batch; segmentations on one canvas, in training that of the images."""
    if name != "segmentation":
      return np.stack(values)
    canvas = self.canvas if self._train else self._seen
    if canvas is None:
      sizes = [value.shape for value in values]
      canvas = geometry_ops.rounded_up((max(h for h, _ in sizes), max(w for _, w in sizes)), CANVAS)
    window = geometry_ops.whole(canvas)
    return np.stack([geometry_ops.cropped(value, window, geometry_ops.IGNORED) for value in values])

  def check(self, clip: Clip, id: str) -> None:
    if self._view.input == "asis" and self._first and not self._fits(clip.shape[1:3]):
      raise DataError(
        f"{id}: the picture is {clip.shape[2]}x{clip.shape[1]} and {self._first} is {self._seen[1]}x{self._seen[0]}; "
        "input=asis needs one size. Use input=model, or a view that ends in one, such as resize=256,crop=224"
      )
    if self._input.clips and len(clip) != self._n_frames:
      raise DataError(
        f"{id}: the clip has {len(clip)} frames and {self._first} has {self._n_frames}; the model needs one length. "
        "Use a view that has one, such as length=8"
      )

  def _fits(self, size: Size) -> bool:
    """Not whether a canvas holds it: segmentations of a batch are joined on the one size that the codec sees."""
    return self._cut or size == self._seen


def check_labelled(source: Source, input: InputSpec, view: View) -> None:
  """Raises SpecError where labels have their place in one frame of a clip and the model is fed others, naming that one.

  A source of such labels says which it is: `labelled_frame`, its number and of how many frames, of None where a clip
  has no end. A model of clips is fed all that the view takes, and need only be fed that one too.
  """
  labelled = next((one.labelled_frame for one in stack(source) if hasattr(one, "labelled_frame")), None)
  if labelled is None:
    return
  frame, n_frames = labelled
  is_clip = view.samples_frames or n_frames is not None  # of a scene, the picture alone
  taken = video_ops.sampled(n_frames, view, "clips with labels") if is_clip else range(1)
  fed = taken if input.clips or view.frames in ("all", "pairs") else taken[int(view.frames) : int(view.frames) + 1]
  if frame in fed and (input.clips or len(fed) == 1):
    return
  remedy = f"the view's length and stride leave that out; without them it is frames={frame}"
  if frame in taken:
    remedy = f"use frames={taken.index(frame)}"
  number = f"frame {fed[0]}" if len(fed) == 1 else f"{len(fed)} frames"
  raise SpecError(
    f"frames={view.frames} feeds {number} of a clip, and its labels are of frame {frame}; {remedy}. Where no label is "
    "asked for, as by the relative protocol alone, name the data without them"
  )


def _first_target(source: Source) -> Mapping[str, np.ndarray]:
  for index in range(len(source)):
    with contextlib.suppress(DataError):  # told, or skipped, when its turn comes
      return source.target(index)
  return {}


def _size_of(view: View) -> Size | None:
  """The one size that a view makes of all pictures, if it does."""
  if view.crop is not None:
    return (view.crop, view.crop) if isinstance(view.crop, int) else view.crop
  return view.resize if isinstance(view.resize, tuple) else None
