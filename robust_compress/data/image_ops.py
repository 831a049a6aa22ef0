"""What is done to pixels between a file and a model, with Pillow and numpy only.

    bytes ──decode_picture──▶ clip ──apply_view──▶ what the codec sees ──to_input──▶ what the model sees

Geometry (`geometry_ops.py`) follows torchvision's PIL transforms to the last pixel, because published weights were
scored through them. Every function takes and returns uint8[t h w 3] and treats all frames alike.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFile

from robust_compress.data import geometry_ops, video_ops
from robust_compress.data.geometry_ops import Geometry
from robust_compress.types import Clip, DataError, InputSpec, SpecError, View

VERSION = "1"  # of the geometry; raised when a function here would return other pixels than before
MAX_PIXELS = 178_956_970  # above this Pillow too calls a picture a decompression bomb: half a gigabyte of RGB
_SHRINK = "Leave the picture out or shrink it"

_FILTERS = {
  "nearest": Image.Resampling.NEAREST,
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
  "lanczos": Image.Resampling.LANCZOS,
}


# -------------------------------------------------------------------------------------------- decoding


def decode_picture(data: bytes, name: str) -> Clip:
  """Bytes of a picture file to uint8[1 h w 3].

  The first frame of an animation counts. Grey and palette become RGB, alpha is dropped without compositing, CMYK goes
  through Pillow's plain conversion, 16 bits keep their upper 8: all as torchvision and TFDS do. Like them, and unlike
  a viewer, nothing is rotated by the EXIF tag.

  Raises:
    DataError: names `name` when the bytes are no picture, stop short, or declare more than MAX_PIXELS pixels (which is
      checked before anything is decoded).
  """
  try:
    with Image.open(io.BytesIO(data)) as image:
      check_size(image.height, image.width, name)
      return _to_rgb(image)[None]
  except DataError:
    raise
  except Image.DecompressionBombError as error:
    raise _too_large(name, str(error)) from error
  except Exception as error:  # a damaged file makes Pillow raise anything from OSError to IndexError
    raise DataError(f"{name}: unreadable or truncated picture of {len(data)} bytes ({error})") from error


def decode_clip(frames: Iterable[tuple[bytes, str]], n_frames: int, name: str) -> Clip:
  """`n_frames` picture files, each with its name, to uint8[t h w 3]; of animations the first frame.

  Raises:
    DataError: as `decode_picture`; where one is of another size than the first, or all are more than MAX_PIXELS pixels.
  """
  clip = np.empty((0, 0, 0, 3), np.uint8)
  for position, (data, frame_name) in enumerate(frames):
    [frame] = decode_picture(data, frame_name)
    if position == 0:
      check_size(*frame.shape[:2], name, n_frames)
      clip = np.empty((n_frames, *frame.shape), np.uint8)
    if frame.shape != clip.shape[1:]:
      sizes = [f"{shape[1]}x{shape[0]}" for shape in (frame.shape, clip.shape[1:])]
      raise DataError(f"{frame_name}: the frame is {sizes[0]}, and those before it are {sizes[1]}; expected one size")
    clip[position] = frame
  return clip


def _to_rgb(image: Image.Image) -> np.ndarray:
  ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library in this process may have asked for half pictures
  if image.mode == "F":
    raise ValueError("floating-point pixels have no defined range")
  if image.mode.startswith("I"):
    grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
  return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def check_size(height: int, width: int, name: str, n_frames: int = 1) -> None:
  """Raises DataError for a picture, or a clip of as many frames, of more than MAX_PIXELS pixels."""
  if n_frames * height * width > MAX_PIXELS:
    frames, remedy = ("", _SHRINK) if n_frames == 1 else (f"{n_frames} frames of ", "Take fewer, by length and stride")
    raise _too_large(name, f"{frames}{width}x{height} pixels", remedy)


def _too_large(name: str, what: str, remedy: str = _SHRINK) -> DataError:
  return DataError(f"{name}: {what}; at most {MAX_PIXELS} pixels are decoded. {remedy}")


# -------------------------------------------------------------------------------------------- geometry


def apply(clip: Clip, geometry: Geometry, interpolation: str) -> Clip:
  """The clip as `geometry` says. Raises DataError where a very long picture, resized, would exceed MAX_PIXELS."""
  top, left, height, width = geometry.part
  clip = resize(clip[:, top : top + height, left : left + width], geometry.size, interpolation)
  if geometry.crop != geometry_ops.whole(clip.shape[1:3]):
    frames = [geometry_ops.cropped(frame, geometry.crop, 0) for frame in clip]
    clip = np.stack(frames) if len(frames) > 1 else frames[0][None]
  return clip[:, :, ::-1] if geometry.mirrored else clip


def resize(clip: Clip, size: int | tuple[int, int], interpolation: str) -> Clip:
  """Brings the shorter side to `size` pixels, or the picture to exactly `size` = (h, w).

  Raises DataError where the result of a very long picture would exceed MAX_PIXELS.
  """
  height, width = geometry_ops.resized(clip.shape[1:3], size)
  if (height, width) == clip.shape[1:3]:
    return clip
  check_size(height, width, f"picture of {clip.shape[2]}x{clip.shape[1]} resized to {size}", len(clip))
  frames = [Image.fromarray(frame).resize((width, height), _filter(interpolation)) for frame in clip]
  return np.stack([np.asarray(frame) for frame in frames])


def _filter(interpolation: str) -> Image.Resampling:
  if interpolation not in _FILTERS:
    raise SpecError(f"interpolation {interpolation!r}; expected one of {', '.join(_FILTERS)}")
  return _FILTERS[interpolation]


# --------------------------------------------------------------------------------------- views and inputs


def apply_view(clip: Clip, view: View) -> Clip:
  """What the codec sees of a source picture, or of the frames that `video_ops.sample` took of a clip."""
  return apply(clip, geometry_ops.viewed(clip.shape[1:3], view), view.interpolation)


def to_input(clip: Clip, spec: InputSpec, view: View) -> np.ndarray:
  """What the model is fed, in its evaluation geometry or as it is: uint8[h w 3], or of clips as `video_ops.arranged`.

  Under fit='pad' without its padding. Raises SpecError and DataError as `video_ops.fed` does.
  """
  geometry = geometry_ops.to_input(clip.shape[1:3], spec, view)
  return video_ops.arranged(apply(video_ops.fed(clip, spec, view), geometry, spec.interpolation), spec, view)
