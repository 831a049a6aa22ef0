"""H.264, HEVC, AV1 and VP9: x264, x265, SVT-AV1 and libvpx, in process by PyAV.

    clip[t h w 3] ──video_frames.encode──▶ packets ──video_stream──▶ blob ──▶ packets ──video_frames.decode──▶ clip

A level is the quantiser (mode=qp) or the rate factor (mode=crf): high numbers are low rates. A still picture is a clip
of one frame. The settings that are not options are the libraries' own defaults, as the ffmpeg program has them, but for
`h264(mode=qp)`, which is the command of Reich et al. 2024 to the letter, and for one thread a clip.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from robust_compress.codecs import checks, frames, video_frames, video_stream
from robust_compress.specs import format_call, format_number
from robust_compress.types import Clip, CodecError, Coded, SpecError

os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 tells its settings on stderr, clip by clip, unless told not to

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_LEVELS_51 = (51, 50, 45, 40, 35, 30, 25, 23, 20, 15, 10, 5, 0)


@dataclass(frozen=True)
class VideoCodec:
  """One encoder with its settings, and the decoder of its streams.

  Bytes and pixels depend on what `fingerprint()` names and on nothing else.

  Raises:
    SpecError: an option that does not exist, or a value outside its choices; names them.
    LevelError: a level outside its range, or a fraction where levels are whole; names the range.
    CodecError: a clip that cannot be coded; a blob that is damaged, cut short, another codec's, or too large.
  """

  name: str
  encoder: str
  decoder: str
  levels: tuple[float, ...]
  mode: str  # 'qp' or 'crf'
  is_whole: bool  # whether levels are whole numbers
  chroma: int  # 420 or 444
  smallest: int  # side of a frame that the encoder takes
  options: Mapping[str, Any]  # as the user may give them
  settings: Mapping[str, str]  # the encoder's, next to the level's own
  level_keys: tuple[str, ...]  # settings that are the level
  batched: bool = field(default=False, init=False)

  def fingerprint(self) -> str:
    return f"{format_call(self.name, self.options)}, {_libraries(self.encoder)}"

  def check_level(self, level: float) -> None:
    checks.level(self.name, level, (self.levels[-1], self.levels[0]), self.mode.upper(), self.is_whole)

  def encode(self, clips: Sequence[Clip], levels: Sequence[float]) -> list[Coded]:
    """uint8[t h w 3] clips to blobs, one level each. Releases the GIL while it codes."""
    return [Coded(self._encode_one(clip, level)) for clip, level in zip(clips, levels, strict=True)]

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    """Blobs to uint8[t h w 3] clips. Nothing is allocated before the declared size is checked."""
    return [self._decode_one(blob) for blob in blobs]

  def open_encoder(self, height: int, width: int, level: float) -> av.VideoCodecContext:
    """FFmpeg's encoder as this codec uses it, for frames of one size."""
    settings = {**dict.fromkeys(self.level_keys, format_number(level)), **self.settings}
    return video_frames.open_encoder(self.name, self.encoder, (height, width), self._pixel_format, settings)

  @property
  def _pixel_format(self) -> str:
    return video_frames.PIXEL_FORMATS[self.chroma]

  def _encode_one(self, clip: Clip, level: float) -> bytes:
    self.check_level(level)
    frames.check_clip(self.name, clip)
    n_frames, height, width, _ = clip.shape
    size = video_frames.padded_size(height, width, self._pixel_format, self.smallest)
    packets = video_frames.encode(self.name, self.open_encoder(*size, level), video_frames.pad(clip, size))
    header = video_stream.Header(self.name, width, height, n_frames, video_frames.RATE)
    return video_stream.pack(header, video_stream.join(self.name, packets))

  def _decode_one(self, blob: bytes) -> Clip:
    header, stream = video_stream.unpack(blob, self.name)
    packets = video_stream.split(self.name, stream)
    return video_frames.decode(self.decoder, packets, header, self.smallest)


# ------------------------------------------------------------------------------------------------ encoders

# The AVX-512 code of x264's macroblock tree (164 and 165) reads past rows of blocks, and streams depend on what memory
# held before; Reich's QP streams have no macroblock tree. Every processor with AVX-512 has what stands here.
_WITHOUT_AVX512 = "MMX2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"
_LISTS = ("x264-params", "x264opts")  # of options by x264's own names
_REICH = {"g": "8", "flags": "+cgop+mv4", "mbtree": "0", "aq-mode": "0", "b_strategy": "0", "psy": "0"}


def h264(*, mode: str = "qp", chroma: int | None = None, preset: str = "medium", extra: str = "") -> VideoCodec:
  """H.264 by x264.

  Args:
    mode: 'qp': constant quantiser in closed groups of eight frames, with the options of Reich et al. 2024 (QP 0 is
      lossless in YCbCr); 'crf': x264's defaults, as Poyser et al. 2020 used them.
    chroma: 444, which ffmpeg makes of PNG files and is the default of 'qp', or 420, that of 'crf'.
    preset: x264's, 'ultrafast' to 'placebo'.
    extra: more of the encoder's options by their FFmpeg names, as 'bf=0 refs=1'.
  """
  checks.choice("h264", "mode", mode, ("qp", "crf"))
  checks.choice("h264", "preset", preset, _PRESETS)
  chroma = {"qp": 444, "crf": 420}[mode] if chroma is None else chroma
  settings = {"preset": preset, **(_REICH if mode == "qp" else {"x264-params": f"asm={_repeatable_code()}"})}
  options = {"mode": mode, "chroma": chroma, "preset": preset, "extra": extra}
  return _codec("h264", ("libx264", "h264"), options, settings, _LEVELS_51, is_whole=mode == "qp")


@functools.cache
def _repeatable_code() -> str:
  """x264's name of the fastest code for this processor that gives the same stream every time."""
  processor = pathlib.Path("/proc/cpuinfo")
  return _WITHOUT_AVX512 if processor.exists() and " avx512f" in processor.read_text() else "auto"


def hevc(*, mode: str = "qp", chroma: int = 420, preset: str = "medium", extra: str = "") -> VideoCodec:
  """HEVC by x265, at its defaults but for threads. Options as those of `h264`.

  Sides are padded to 72 pixels: x265 4.2 codes rows of up to 64 differently every time, and its rate control writes
  past the end of its buffers where they are shorter than 50.
  """
  checks.choice("hevc", "preset", preset, _PRESETS)
  single = "log-level=none:info=0:pools=none:frame-threads=1"
  options = {"mode": mode, "chroma": chroma, "preset": preset, "extra": extra}
  settings = {"preset": preset, "x265-params": single}
  return _codec("hevc", ("libx265", "hevc"), options, settings, _LEVELS_51, is_whole=mode == "qp", smallest=72)


def av1(*, mode: str = "qp", preset: int = 8, extra: str = "") -> VideoCodec:
  """AV1 by SVT-AV1, which codes 4:2:0 only. `preset` runs from 0, small files, to 13."""
  checks.choice("av1", "preset", preset, range(14))
  options = {"mode": mode, "preset": preset, "extra": extra}
  settings = {"preset": str(preset), "svtav1-params": "lp=1"}
  levels = (63, 60, 55, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5, 1)
  return _codec("av1", ("libsvtav1", "libdav1d"), options, settings, levels, smallest=4)


def vp9(*, mode: str = "qp", chroma: int = 420, speed: int = 1, extra: str = "") -> VideoCodec:
  """VP9 by libvpx. `speed` runs from 0, small files, to 8; 'qp' holds the quantiser where 'crf' lets it vary."""
  checks.choice("vp9", "speed", speed, range(9))
  options = {"mode": mode, "chroma": chroma, "speed": speed, "extra": extra}
  levels = (63, 60, 55, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
  return _codec("vp9", ("libvpx-vp9", "vp9"), options, {"cpu-used": str(speed), "b": "0"}, levels)


def _codec(
  name: str,
  libraries: tuple[str, str],
  options: dict[str, Any],
  settings: dict[str, str],
  levels: tuple[float, ...],
  is_whole: bool = True,
  smallest: int = 2,
) -> VideoCodec:
  mode, chroma = options["mode"], options.get("chroma", 420)
  checks.choice(name, "mode", mode, ("qp", "crf"))
  checks.choice(name, "chroma", chroma, (420, 444))
  level_keys = ("crf", "qmin", "qmax") if (name, mode) == ("vp9", "qp") else (mode,)  # libvpx has no qp of its own
  extra = _parse_extra(name, options["extra"], {*settings, *level_keys, "threads"})
  codec = VideoCodec(name, *libraries, levels, mode, is_whole, chroma, smallest, options, settings | extra, level_keys)
  if extra:
    _try(codec)
  return codec


def _parse_extra(name: str, extra: str, taken: set[str]) -> dict[str, str]:
  """'bf=0 refs=1' to the options of an encoder."""
  options = {}
  for pair in str(extra).split():
    key, equals, value = pair.partition("=")
    if not (key and equals and value):
      raise SpecError(f"{name}(extra={extra!r}): {pair!r} is not of the form key=value")
    if name == "h264" and key in _LISTS:
      raise SpecError(f"{name}(extra={extra!r}): in {key} FFmpeg ignores what x264 does not know; name options singly")
    if key in taken:
      raise SpecError(f"{name}(extra={extra!r}): {key!r} is set by the codec, its level or its own options")
    options[key] = value
  return options


def _try(codec: VideoCodec) -> None:
  """Opens an encoder once, so that options it refuses are refused before any work."""
  try:
    codec.open_encoder(64, 64, codec.levels[0])
  except CodecError as error:
    raise SpecError(str(error)) from error


# -------------------------------------------------------------------------------------------------- versions


@functools.cache
def _libraries(encoder: str) -> str:
  """Versions of what makes bytes and pixels. A build of PyAV has one of each library, some of which tell their own."""
  ffmpeg = ", ".join(f"{name} {'.'.join(map(str, av.library_versions[name]))}" for name in ("libavcodec", "libswscale"))
  letter = _letter(encoder) if encoder in ("libx264", "libx265") else ""
  return f"av {av.__version__}, ffmpeg {av.ffmpeg_version_info}, {ffmpeg}" + (f", {letter}" if letter else "")


def _letter(encoder: str) -> str:
  """How an encoder names itself in the first frame it writes."""
  name = {"libx264": "h264", "libx265": "hevc"}[encoder]
  quiet = {"x265-params": "log-level=none:pools=none:frame-threads=1"} if encoder == "libx265" else {}
  context = video_frames.open_encoder(name, encoder, (64, 64), "yuv420p", quiet)
  packets = video_frames.encode(name, context, np.zeros((1, 64, 64, 3), np.uint8))
  return video_stream.letter(name, b"".join(packets))
