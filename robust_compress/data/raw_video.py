"""Video files that are not compressed: y4m, which says what it holds, and raw samples, of which the user says it.

    YUV4MPEG2 W64 H48 C420jpeg … │ FRAME │ samples │ FRAME │ …          .y4m
                                   samples │ samples │ …                .yuv, .rgb, .raw

Any frame is read where it lies. Samples become RGB as by the ffmpeg program: `video_files.to_rgb`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from robust_compress.data import image_ops, video_files
from robust_compress.data.video_ops import Choose
from robust_compress.specs import nearest
from robust_compress.types import Clip, DataError

SUFFIXES = (".raw", ".rgb", ".yuv")
FORMATS = (
  *(f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "10le", "12le")),
  "yuvj420p", "yuvj422p", "yuvj444p", "yuv411p", "nv12", "nv21", "gray", "rgb24", "bgr24", "gbrp",
)  # fmt: skip

_MAGIC = b"YUV4MPEG2"
_MAX_LINE = 1024  # bytes of a header, at which FFmpeg gives up earlier
_Y4M = {  # a y4m's kind of samples -> FFmpeg's name; where chroma lies makes no difference to RGB
  **dict.fromkeys(("420", "420jpeg", "420mpeg2", "420paldv"), "yuv420p"),
  "411": "yuv411p",
  "422": "yuv422p",
  "444": "yuv444p",
  "mono": "gray",
  **{f"{chroma}p{bits}": f"yuv{chroma}p{bits}le" for chroma in (420, 422, 444) for bits in (10, 12)},
}


class Layout(NamedTuple):
  """How one frame is stored."""

  height: int
  width: int
  format: str  # FFmpeg's name of a pixel format
  is_full: bool = False  # luma from 0 to 255, where the format itself does not say

  @property
  def n_bytes(self) -> int:
    """Of one frame."""
    components = av.VideoFormat(self.format, self.width, self.height).components
    return sum(one.width * one.height * -(-one.bits // 8) for one in components)


@dataclasses.dataclass(frozen=True)
class RawFile:
  """Frames of one layout behind each other and nothing else."""

  path: Path
  layout: Layout

  @property
  def kind(self) -> str:
    return f"{self.layout.format} {self.layout.width}x{self.layout.height}"

  @property
  def files(self) -> tuple[Path, ...]:
    return (self.path,)

  def frames(self, choose: Choose) -> Clip:
    """uint8[t h w 3]. Raises DataError for a file that does not hold a whole number of frames."""
    with _open(self.path) as stream:
      size, n_bytes = stream.seek(0, 2), self.layout.n_bytes
      if size == 0 or size % n_bytes:
        height, width, name, _ = self.layout
        raise DataError(
          f"{self.path}: {size} bytes are no whole number of frames of {n_bytes}, as {width}x{height} in {name} has; "
          "is it cut short, or are width, height or format others?"
        )
      return _read(stream, self.path, self.layout, range(0, size, n_bytes), choose)


@dataclasses.dataclass(frozen=True)
class Y4mFile:
  """YUV4MPEG2, as mjpegtools, FFmpeg, x264 and AOM write it."""

  path: Path
  kind = "y4m"

  @property
  def files(self) -> tuple[Path, ...]:
    return (self.path,)

  def frames(self, choose: Choose) -> Clip:
    """uint8[t h w 3]. Raises DataError for a header that is none, and for a file that is cut short."""
    with _open(self.path) as stream:
      layout = _header(self.path, _line(stream, self.path))
      return _read(stream, self.path, layout, list(_offsets(stream, self.path, layout)), choose)


def check_format(name: str) -> None:
  """Raises SpecError for a format of samples that is not read."""
  if name not in FORMATS:
    raise nearest("format of raw video", name, FORMATS)


def _open(path: Path) -> BinaryIO:
  try:
    return path.open("rb")
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error.strerror})") from error


# ------------------------------------------------------------------------------------------------- y4m


def _line(stream: BinaryIO, path: Path) -> bytes:
  """One header, without the end of its line."""
  line = stream.readline(_MAX_LINE)
  if not line.endswith(b"\n"):
    raise DataError(f"{path}: no y4m, or cut short: expected a header at byte {stream.tell() - len(line)}")
  return line[:-1]


def _header(path: Path, line: bytes) -> Layout:
  magic, *fields = line.split(b" ")
  tags = {field[:1].decode("latin1"): field[1:].decode("latin1") for field in fields if field[:1] != b"X"}
  chroma = tags.get("C", "420")
  if magic != _MAGIC or not re.fullmatch(r"[1-9]\d{0,5} [1-9]\d{0,5}", f"{tags.get('H')} {tags.get('W')}"):
    raise DataError(f"{path}: not a y4m file; expected it to begin with 'YUV4MPEG2 W<width> H<height>'")
  if chroma not in _Y4M:
    raise DataError(f"{path}: y4m with samples of the kind {chroma!r}; expected one of {', '.join(_Y4M)}")
  return Layout(int(tags["H"]), int(tags["W"]), _Y4M[chroma], b"XCOLORRANGE=FULL" in fields)


def _offsets(stream: BinaryIO, path: Path, layout: Layout) -> Iterator[int]:
  """Where the samples of each frame begin: behind a line of their own."""
  start, size, n_bytes = stream.tell(), stream.seek(0, 2), layout.n_bytes
  while start < size:
    stream.seek(start)
    if not _line(stream, path).startswith(b"FRAME"):
      raise DataError(f"{path}: damaged; expected a frame at byte {start}")
    offset = stream.tell()
    start = offset + n_bytes
    if start > size:
      raise DataError(f"{path}: cut short; its last frame has {size - offset} of {n_bytes} bytes")
    yield offset


# -------------------------------------------------------------------------------------------- samples to RGB


def _read(stream: BinaryIO, path: Path, layout: Layout, offsets: Sequence[int], choose: Choose) -> Clip:
  if not offsets:
    raise DataError(f"{path}: a video without a frame")
  wanted = choose(len(offsets))
  image_ops.check_size(layout.height, layout.width, str(path), len(wanted))
  decoder, scaler = _decoder(layout), VideoReformatter()
  clip = np.empty((len(wanted), layout.height, layout.width, 3), np.uint8)
  for position, index in enumerate(wanted):
    stream.seek(offsets[index])
    [frame] = decoder.decode(av.Packet(stream.read(layout.n_bytes)))
    clip[position] = video_files.to_rgb(scaler, frame)
  return clip


def _decoder(layout: Layout) -> av.VideoCodecContext:
  """FFmpeg's own unpacking of samples: it knows where they lie at odd sizes."""
  decoder = av.CodecContext.create("rawvideo", "r")
  decoder.height, decoder.width, decoder.pix_fmt = layout.height, layout.width, layout.format
  if layout.is_full:
    decoder.color_range = ColorRange.JPEG
  return decoder
