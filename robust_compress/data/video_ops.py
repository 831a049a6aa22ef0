"""Which frames: those of a clip that a view samples, and those of the coded clip that feed a model.

    n frames ──sampled──▶ indices ──decode, resize, crop, code──▶ clip[t h w 3] ──fed──▶ frames ──arranged──▶ input

One video gives one clip, from its middle. Reich et al. (2024) take eight frames at stride 3 and do not say from where:
in the middle of a Cityscapes snippet of 30 frames these are 4, 7, …, 25, the sixth of them the labelled one, frame 19.
So one view, coded once, serves optical flow (frames=pairs) and segmentation (frames=5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robust_compress.types import Clip, DataError, InputSpec, Source, SpecError, View

VERSION = "1"  # of `sampled`; raised when it would choose other frames than before
Choose = Callable[[int | None], Sequence[int]]  # how many frames there are, None: no end -> those wanted, rising


def sampled(n_frames: int | None, view: View, name: str) -> range:
  """Indices of the frames that `view` takes of a clip of `n_frames`, an odd one over being left out at the end.

  A clip without an end (None), which only a renderer has, is taken from its beginning.

  Raises:
    DataError: a clip that is too short; says how many frames are needed and how many there are.
    SpecError: a clip without an end under a view without a length.
  """
  length = view.length
  if n_frames is None:
    if length is None:
      raise SpecError(f"{name}: stride={view.stride} of a clip without an end; say how many frames, as in length=8")
    return range(0, length * view.stride, view.stride)
  if length is None:
    length = -(-n_frames // view.stride)
  n_needed = (length - 1) * view.stride + 1
  if n_needed > n_frames:
    raise DataError(
      f"{name}: {length} frames at stride {view.stride} need a clip of {n_needed}, and it has {n_frames}; ask for "
      "fewer (length, stride), or leave such clips out (on_bad=skip)"
    )
  start = (n_frames - n_needed) // 2
  return range(start, start + n_needed, view.stride)


def sample(source: Source, index: int, view: View) -> Clip:
  """uint8[t h w 3]: the view's frames of one example."""
  name = source.id(index)
  return chosen(source, index, lambda n_frames: sampled(n_frames, view, name))


def chosen(source: Source, index: int, choose: Choose) -> Clip:
  """`types.ClipSource.frames` of any source: its own, which reads no more than it must, or cut from the whole clip."""
  if hasattr(source, "frames"):
    return source.frames(index, choose)
  clip = source.picture(index).clip
  return clip[list(choose(len(clip)))]


# --------------------------------------------------------------------------------------- what a model is fed


def fed(clip: Clip, spec: InputSpec, view: View) -> Clip:
  """The frames of a clip, as the codec left it, that a model is fed. Geometry then treats all of them alike.

  Raises:
    SpecError: a model of pictures without one frame that is named, where there are several; a model of clips with one.
    DataError: a clip that has not the frame that is named, or no pair of frames.
  """
  if spec.clips:
    return _fed_as_clip(clip, view)
  if view.frames == "pairs":
    raise SpecError("frames=pairs feeds pairs, and this model takes single pictures; name one, as in frames=0")
  if view.frames == "all" and len(clip) > 1:
    raise SpecError(
      f"this model takes single pictures, and the data is clips of {len(clip)} frames; name the one that the model is "
      f"fed, from frames=0 to frames={len(clip) - 1}. The codec sees all of them"
    )
  index = 0 if view.frames == "all" else int(view.frames)
  if index >= len(clip):
    raise DataError(f"frames={index} of a clip of {len(clip)}; expected 0 to {len(clip) - 1}")
  return clip[index : index + 1]


def _fed_as_clip(clip: Clip, view: View) -> Clip:
  if view.frames not in ("all", "pairs"):
    raise SpecError(f"frames={view.frames} feeds a picture, and this model takes clips; use frames=all or frames=pairs")
  if view.frames == "pairs" and len(clip) < 2:
    raise DataError(f"frames=pairs of a clip of {len(clip)} frame; expected at least 2, as by length=8")
  return clip


def arranged(frames: Clip, spec: InputSpec, view: View) -> np.ndarray:
  """What `fed` chose, in the model's geometry by now, as the model takes it.

  uint8[h w 3] for a model of pictures. For one of clips uint8[t h w 3], or under frames=pairs uint8[t-1 2 h w 3]: each
  frame with the one after it.
  """
  if not spec.clips:
    return frames[0]
  return np.stack([frames[:-1], frames[1:]], axis=1) if view.frames == "pairs" else frames


def arranged_shape(n_frames: int, size: tuple[int, int], spec: InputSpec, view: View) -> tuple[int, ...]:
  """The shape of `arranged` for a clip of `n_frames`, each brought to `size` = (h, w)."""
  if not spec.clips:
    return *size, 3
  return (n_frames - 1, 2, *size, 3) if view.frames == "pairs" else (n_frames, *size, 3)
