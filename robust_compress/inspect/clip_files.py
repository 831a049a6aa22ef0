"""A clip from and to what a person has: a picture, a video, a folder of frames.

    photo.png, clip.mp4, frames/  ──read_clip──▶ uint8[t h w 3] ──write_clip──▶  photo.png, clip.mkv, frames/00000.png

What is written is without loss, whatever it is written to.
"""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from robust_compress import files
from robust_compress.data import files as pictures
from robust_compress.data.clips import Readable, files_in
from robust_compress.data.frame_folders import FrameFiles, by_number
from robust_compress.data.raw_video import Y4mFile
from robust_compress.data.video_files import SUFFIXES, VideoFile
from robust_compress.types import Clip, DataError, SpecError

VIDEOS = (*SUFFIXES, ".y4m")
_TO_PICTURES = {".png": "PNG", ".ppm": "PPM", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
_TO_VIDEOS = {".mkv": "matroska", ".avi": "avi"}  # that hold FFV1
_RATE = 25  # frames a second of a video that is written


def readable(path: Path) -> Readable:
  """The frames of a video, or of a picture, which has one."""
  suffix = path.suffix.lower()
  return Y4mFile(path) if suffix == ".y4m" else VideoFile(path) if suffix in VIDEOS else FrameFiles((path,))


def read_clip(path: str | os.PathLike) -> Clip:
  """uint8[t h w 3] of a picture, of all frames of a video, or of a folder's pictures by the numbers in their names.

  Raises DataError where nothing is there, it cannot be read, or frames are of several sizes.
  """
  path = Path(path)
  clip = readable(path)
  if path.is_dir():
    clip = FrameFiles(tuple(sorted(files_in(path, path, pictures.SUFFIXES), key=by_number)))
    if not clip.files:
      raise DataError(f"{path}: no pictures in it; {pictures.contents_of(path)}")
  return clip.frames(lambda n_frames: range(n_frames or 0))


def check_target(path: str | os.PathLike) -> None:
  """Raises SpecError for a name that would not hold a clip without loss."""
  suffix, known = Path(path).suffix.lower(), [*_TO_PICTURES, *_TO_VIDEOS]
  if suffix and suffix not in known:
    raise SpecError(
      f"{path}: {suffix} is not written; expected {', '.join(known)}, or a folder for frames, all lossless"
    )


def write_clip(path: str | os.PathLike, clip: Clip) -> None:
  """Writes uint8[t h w 3] to a picture or a video, by its suffix, or into a folder, which has none.

  Raises SpecError for several frames to one picture, or another suffix; StoreError where it cannot be written.
  """
  check_target(path)
  path = Path(path)
  suffix = path.suffix.lower()
  if suffix in _TO_VIDEOS:
    _write_video(path, clip, _TO_VIDEOS[suffix])
  elif suffix and len(clip) > 1:
    raise SpecError(f"{path}: {len(clip)} frames for one picture; name a folder without a suffix, or a .mkv")
  elif suffix:
    _write_picture(path, clip[0], _TO_PICTURES[suffix])
  else:
    for index, frame in enumerate(clip):
      _write_picture(path / f"{index:05d}.png", frame, "PNG")


def _write_picture(path: Path, frame: np.ndarray, name: str) -> None:
  buffer = io.BytesIO()
  Image.fromarray(frame).save(buffer, name)
  files.write_atomic(path, buffer.getvalue())


def _write_video(path: Path, clip: Clip, container: str) -> None:
  """FFV1 in RGB."""
  with files.replacing(path) as file, av.open(file, "w", format=container) as output:
    stream = output.add_stream("ffv1", rate=Fraction(_RATE))
    stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "bgr0"
    for frame in clip:
      output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    output.mux(stream.encode())
