"""Video files, decoded by FFmpeg's libraries in process (PyAV), and no further than the frames that are wanted.

    file ──demux──▶ times of its frames ──choose──▶ indices ──seek, decode──▶ yuv ──swscale──▶ uint8[t h w 3]

Frames count in the order of presentation, each once, whatever its duration. RGB is what the ffmpeg program makes of
them by `-pix_fmt rgb24`: swscale with bicubic chroma, BT.601 where the file names no matrix. Unlike there, and as with
pictures here, nothing is turned by a rotation tag.

Files of MP4, MOV, Matroska and WebM say when each of their frames is shown, so that reading starts at the key frame
before the first one wanted. Others are decoded from their beginning, and once more to count their frames. A file that
is cut short is told where its format has a size or a count; a transport stream, or a bare one, is as long as it is.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from robust_compress.data import image_ops
from robust_compress.data.video_ops import Choose
from robust_compress.types import Clip, DataError, RobustCompressError

SUFFIXES = (
  ".3gp", ".avi", ".flv", ".h264", ".hevc", ".ivf", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".nut",
  ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip

# No playlist or list of files, which would lead out of the folder: only formats that hold their own frames.
_FORMATS = (
  "3gp,asf,avi,flv,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,nut,obu,ogg,webm"
)  # fmt: skip
_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # FFmpeg's names of the two formats that are sought in
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"  # elements of Matroska
_OPTIONS = {"format_whitelist": _FORMATS, "max_pixels": str(image_ops.MAX_PIXELS)}


@dataclasses.dataclass(frozen=True)
class VideoFile:
  """One video, opened anew for each reading, so that many threads may read."""

  path: Path
  kind = "video"

  @property
  def files(self) -> tuple[Path, ...]:
    return (self.path,)

  def frames(self, choose: Choose) -> Clip:
    """uint8[t h w 3] of the frames chosen.

    Raises:
      DataError: names the file where it cannot be read, is cut short, lacks a wanted frame, changes its size on the
        way, or where the frames chosen are more than `image_ops.MAX_PIXELS` pixels (which is checked before decoding).
    """
    with _explained(self.path):
      stat = self.path.stat()
      times = _times(self.path, stat.st_size, stat.st_mtime_ns)
      return _read(self.path, times, list(choose(times.n_frames)))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
  """Whatever a damaged file makes FFmpeg raise, as a DataError that names it."""
  try:
    yield
  except RobustCompressError:
    raise
  except Exception as error:
    raise DataError(f"{path}: unreadable or truncated video ({error})") from error


@contextmanager
def _opened(path: Path) -> Iterator[av.VideoStream]:
  """The first video stream of a file, ready to decode in this thread alone."""
  with av.open(str(path), options=_OPTIONS) as container:
    stream = next((stream for stream in container.streams.video if stream.codec_context), None)
    if stream is None:
      raise DataError(f"{path}: no video in it that can be decoded ({container.format.long_name}); is it cut short?")
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(image_ops.MAX_PIXELS)}
    yield stream


# ---------------------------------------------------------------------------------------- when frames are shown


@dataclasses.dataclass(frozen=True)
class Times:
  """How many frames there are and, where the file can be sought in, when each is shown and where decoding may begin."""

  n_frames: int
  shown: np.ndarray | None = None  # int64[n], rising, in the stream's time base
  keys: np.ndarray | None = None  # int64[k], rising: of key frames, which need not be shown themselves

  def number(self, time: int | None) -> int:
    """Of the frame that is shown at `time`; -1 where none is."""
    index = -1 if time is None else int(np.searchsorted(self.shown, time))
    return index if 0 <= index < self.n_frames and self.shown[index] == time else -1


@functools.lru_cache(maxsize=10_000)
def _times(path: Path, size: int, modified_ns: int) -> Times:
  """Of the file as it is now: size and time of change are there to tell it from what it was."""
  del modified_ns
  if (promised := _promised_size(path)) > size:
    raise DataError(f"{path}: cut short; it has {size} of the {promised} bytes that it says it has")
  with _opened(path) as stream:
    times = _from_packets(path, stream) if stream.container.format.name in _TIMED else None
  if times is None:
    with _opened(path) as stream:
      times = Times(sum(1 for _ in stream.container.decode(stream)))
  if not times.n_frames:
    raise DataError(f"{path}: a video without a frame")
  return times


def _promised_size(path: Path) -> int:
  """Bytes of an AVI, Matroska or WebM file by its first element; 0 where it does not say."""
  with path.open("rb") as stream:
    head = stream.read(256)
  if head[:4] == b"RIFF":
    return 8 + int.from_bytes(head[4:8], "little")
  if head[:4] == _EBML:
    _, segment = _element(head, 4)
    if head[segment : segment + 4] == _SEGMENT:
      return _element(head, segment + 4)[1]
  return 0


def _element(head: bytes, start: int) -> tuple[int, int]:
  """(where the content begins, where it ends; 0 for an open end) of an EBML element whose size stands at `start`."""
  length = 9 - head[start : start + 1].ljust(1, b"\1")[0].bit_length()  # leading zeros count the bytes of the number
  mask = (1 << 7 * length) - 1
  size = int.from_bytes(head[start : start + length], "big") & mask
  return start + length, 0 if size == mask else start + length + size


def _from_packets(path: Path, stream: av.VideoStream) -> Times | None:
  """One packet is one frame where all have a time of their own; None where that is not so."""
  n_packets, shown, keys = 0, [], []
  for packet in stream.container.demux(stream):
    n_packets += packet.size > 0
    if packet.is_corrupt:
      raise DataError(f"{path}: cut short in frame {n_packets - 1}")
    if packet.size and packet.is_keyframe:
      keys.append(packet.pts)
    if packet.size and not packet.is_discard:  # others are decoded for those that need them, and not shown
      shown.append(packet.pts)
  if n_packets < stream.frames:
    raise DataError(f"{path}: cut short; it has {n_packets} of the {stream.frames} frames that its header promises")
  if None in (*shown, *keys) or len(set(shown)) < len(shown) or not keys:
    return None
  decodable = sorted(time for time in shown if time >= min(keys))
  return Times(len(decodable), np.asarray(decodable, np.int64), np.asarray(sorted(keys), np.int64))


# ------------------------------------------------------------------------------------------------ decoding


class _Taken:
  """The clip that is being read: frames by their number, as they come, converted at once."""

  def __init__(self, path: Path, wanted: Sequence[int]):
    self.path, self.missing = path, dict(zip(wanted, itertools.count()))
    self.n_frames, self.clip, self._scaler = len(wanted), np.empty((0, 0, 0, 3), np.uint8), VideoReformatter()

  def take(self, number: int, frame: av.VideoFrame) -> None:
    if number not in self.missing:
      return
    if frame.is_corrupt:
      raise DataError(f"{self.path}: frame {number} is damaged")
    if not self.clip.size:
      image_ops.check_size(frame.height, frame.width, str(self.path), self.n_frames)
      self.clip = np.empty((self.n_frames, frame.height, frame.width, 3), np.uint8)
    if (frame.height, frame.width) != self.clip.shape[1:3]:
      sizes = f"{frame.width}x{frame.height}, not {self.clip.shape[2]}x{self.clip.shape[1]}"
      raise DataError(f"{self.path}: frame {number} is {sizes} as those before; expected one size")
    self.clip[self.missing.pop(number)] = to_rgb(self._scaler, frame)


def to_rgb(scaler: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
  """uint8[h w 3], as the ffmpeg program converts it to rgb24."""
  rgb = scaler.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
  return rgb.to_ndarray()


def _read(path: Path, times: Times, wanted: Sequence[int]) -> Clip:
  taken = _Taken(path, wanted)
  with _opened(path) as stream:
    image_ops.check_size(stream.codec_context.height, stream.codec_context.width, str(path), len(wanted))
    if times.shown is not None:
      for run in _runs(times, wanted):
        _decode_run(stream, times, run, taken)
  if taken.missing:
    with _opened(path) as stream:
      _decode_from_start(stream, times, taken)
  if taken.missing:
    numbers = ", ".join(map(str, itertools.islice(taken.missing, 5)))
    raise DataError(f"{path}: {len(taken.missing)} of the {len(wanted)} frames wanted cannot be decoded: {numbers}")
  return taken.clip


def _runs(times: Times, wanted: Sequence[int]) -> list[list[int]]:
  """Wanted frames in runs, such that from one run to the next there is at least one key frame to skip to."""
  groups = np.searchsorted(times.keys, times.shown[wanted], side="right")
  starts = np.flatnonzero(np.diff(groups, prepend=-1) > 1)
  return [list(run) for run in np.split(np.asarray(wanted), starts) if len(run)]


def _decode_run(stream: av.VideoStream, times: Times, run: Sequence[int], taken: _Taken) -> None:
  """From the last key frame at or before the run to its end. A seek that misses leaves frames missing."""
  first, last = times.shown[run[0]], times.shown[run[-1]]
  stream.container.seek(_key_before(times, first), stream=stream)
  for frame in stream.container.decode(stream):
    taken.take(times.number(frame.pts), frame)
    if frame.pts is not None and frame.pts >= last:
      return


def _key_before(times: Times, shown: int) -> int:
  """When the last key frame is shown that is shown no later."""
  return int(times.keys[np.searchsorted(times.keys, shown, side="right") - 1])


def _decode_from_start(stream: av.VideoStream, times: Times, taken: _Taken) -> None:
  """Frames by their time, or where the file has no times by the order in which they come."""
  for index, frame in enumerate(stream.container.decode(stream)):
    taken.take(index if times.shown is None else times.number(frame.pts), frame)
    if not taken.missing:
      return
