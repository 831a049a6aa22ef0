"""BPG: Bellard's picture format around one HEVC intra frame, by libx265 and FFmpeg's hevc decoder in PyAV.

    frame[h w 3] ──to_ycbcr, halved──▶ planes ──libx265──▶ HEVC stream ──bpg_container.write──▶ file
    frame[h w 3] ◀─────to_rgb───────── planes ◀───hevc──── HEVC stream ◀─bpg_container.read──── file

A still picture is the plain file, which bpgdec and bpgview open; a clip is one such file a frame (`frames.py`). The
encoder's settings are those of bpgenc 0.9.8 with x265, so a QP means what it means there. Files written by bpgenc are
read too: every pixel format and colour space, depths up to 12.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from robust_compress.codecs import bpg_container, bpg_programs, colour, frames, video_frames, video_stream
from robust_compress.codecs.bpg_container import Contents
from robust_compress.codecs.colour import Layout
from robust_compress.specs import format_call, format_number
from robust_compress.types import Clip, CodecError, Coded, LevelError, SpecError

# One I frame, and what the container takes for granted; threads would only be in each other's way.
_SETTINGS = "keyint=1:repeat-headers=1:info=0:rect=1:amp=1:pools=none:wpp=0:frame-threads=1:log-level=none"


@dataclass(frozen=True)
class BpgCodec:
  """BPG at a quantiser: levels run from QP 51, low rate, to 0, in whole numbers.

  A frame whose three channels are equal is coded as grey, as bpgenc codes a grey picture.

  Args:
    chroma: 420, bpgenc's default, or 444.
    depth: bits of a sample inside the codec, 8 or 10; pixels before and after have 8.
    preset: of x265, 'superfast' to 'placebo': bpgenc's -m 1 to 9. Its default, 8, is 'veryslow'.
    backend: 'builtin', or 'libbpg' for bpgenc and bpgdec on PATH. Either reads the other's files.

  Raises:
    SpecError: an option outside its choices; backend='libbpg' without the programs.
    LevelError: a level outside 0..51 or with a fraction.
    CodecError: what is no clip; bytes that are no BPG file, are damaged, or declare more than `frames.MAX_PIXELS`.
  """

  chroma: int = 420
  depth: int = 8
  preset: str = "veryslow"
  backend: str = "builtin"
  name: str = field(default="bpg", init=False)
  levels: tuple[float, ...] = field(default=(51, 47, 42, 37, 32, 27, 22, 17, 12, 7, 0), init=False)
  batched: bool = field(default=False, init=False)
  suffix: str = field(default=".bpg", init=False)

  def __post_init__(self):
    choices = {"chroma": (420, 444), "depth": (8, 10), "preset": bpg_programs.PRESETS, "backend": ("builtin", "libbpg")}
    for option, allowed in choices.items():
      value = getattr(self, option)
      if isinstance(value, bool) or value not in allowed:
        raise SpecError(f"bpg({option}={value}): expected one of {', '.join(map(str, allowed))}")
    if self.backend == "libbpg":
      bpg_programs.version()

  def fingerprint(self) -> str:
    options = {key: getattr(self, key) for key in ("chroma", "depth", "preset", "backend")}
    libraries = bpg_programs.version() if self.backend == "libbpg" else _libraries()
    return f"{format_call(self.name, options)}, {libraries}"

  def check_level(self, level: float) -> None:
    if not 0 <= level <= 51 or level != int(level):
      whole = "in whole numbers " if 0 <= level <= 51 else ""
      raise LevelError(f"bpg@{format_number(level)}: QP runs {whole}from 51 to 0")

  def encode(self, clips: Sequence[Clip], levels: Sequence[float]) -> list[Coded]:
    """uint8[t h w 3] clips to files, one level each. Releases the GIL while it codes."""
    return [Coded(self._encode_one(clip, level)) for clip, level in zip(clips, levels, strict=True)]

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    """Files to uint8[t h w 3] clips. Nothing is allocated before the declared size is checked."""
    by_program = self.backend == "libbpg"
    read, decode = (bpg_programs.read, bpg_programs.decode) if by_program else (bpg_container.read, decode_frame)
    return [frames.decode_frames(blob, self.name, decode, read) for blob in blobs]

  def _encode_one(self, clip: Clip, level: float) -> bytes:
    self.check_level(level)
    frames.check_clip(self.name, clip)
    encode = bpg_programs.encode if self.backend == "libbpg" else encode_frame
    settings = {"chroma": self.chroma, "depth": self.depth, "preset": self.preset}
    return frames.encode_frames(clip, functools.partial(encode, qp=int(level), **settings))


# ---------------------------------------------------------------------------------------------- one frame


def encode_frame(frame: np.ndarray, qp: int, chroma: int, depth: int, preset: str) -> bytes:
  """uint8[h w 3] to a file."""
  height, width, _ = frame.shape
  layout = Layout(depth, 400 if _is_grey(frame) else chroma)
  planes = [colour.to_grey(frame[..., 0], depth)] if layout.chroma == 400 else colour.to_ycbcr(frame, depth)
  if layout.chroma == 420:
    planes[1:] = [colour.halved(plane, depth) for plane in planes[1:]]
  block = 8 if min(height, width) > 8 else 16  # the coded size is whole blocks, and at least 16
  size = -(-height // block) * block, -(-width // block) * block
  sizes = f":qp={qp}:min-cu-size={block}" + (":ctu=16:tu-intra-depth=1:tu-inter-depth=1" if block == 16 else "")
  options = {"preset": preset, "tune": "ssim", "x265-params": _SETTINGS + sizes}
  encoder = video_frames.open_encoder("bpg", "libx265", size, _pixel_format(layout), options)
  coded = _to_video_frame(planes, size, layout)
  try:
    packets = [*encoder.encode(coded), *encoder.encode(None)]
  except av.FFmpegError as error:
    raise CodecError(f"bpg: cannot code a picture of {width}x{height} pixels: {error}") from error
  return bpg_container.write(b"".join(map(bytes, packets)), height, width, layout)


def decode_frame(contents: Contents) -> np.ndarray:
  """What `bpg_container.read` found in a file, to uint8[h w 3].

  Raises CodecError for a stream that errs, or that holds another picture than its header declares.
  """
  height, width = contents.coded_size
  decoder = av.CodecContext.create("hevc", "r")
  decoder.thread_count = 1
  decoder.options = {"err_detect": "explode", "max_pixels": str((height + 128) * (width + 128))}
  packet = av.Packet(bpg_container.annex_b(contents))
  try:
    decoded = [*decoder.decode(packet), *decoder.decode(None)]
  except (av.FFmpegError, ValueError) as error:
    raise CodecError(f"bpg: the picture's data is damaged: {error}") from error
  if len(decoded) != 1 or (decoded[0].height, decoded[0].width) != (height, width):
    found = ", ".join(f"{frame.width}x{frame.height}" for frame in decoded) or "none"
    raise CodecError(f"bpg: pictures in the data: {found}; expected one of {width}x{height}; the file is damaged")
  return colour.to_rgb(_from_video_frame(decoded[0], contents), contents.layout)


def _is_grey(frame: np.ndarray) -> bool:
  return bool((frame[..., :1] == frame[..., 1:]).all())


def _pixel_format(layout: Layout) -> str:
  name = {400: "gray", 420: "yuv420p", 422: "yuv422p", 444: "yuv444p"}[layout.chroma]
  return name if layout.depth == 8 else f"{name}{layout.depth}le"


def _to_video_frame(planes: Sequence[np.ndarray], size: tuple[int, int], layout: Layout) -> av.VideoFrame:
  """Planes as FFmpeg has them, their edges replicated up to a size (h, w)."""
  frame = av.VideoFrame(size[1], size[0], _pixel_format(layout))
  for target, plane in zip(_samples(frame, layout.depth), planes, strict=True):
    below, right = (coded - own for coded, own in zip(target.shape, plane.shape))
    target[:] = np.pad(plane, ((0, below), (0, right)), "edge")
  return frame


def _from_video_frame(frame: av.VideoFrame, contents: Contents) -> list[np.ndarray]:
  """The planes of a decoded frame, cropped to the picture."""
  layout, shape = contents.layout, (contents.height, contents.width)
  if frame.format.name.removesuffix("le") != _pixel_format(layout).removesuffix("le"):
    raise CodecError(f"bpg: a frame in {frame.format.name}; expected {_pixel_format(layout)}; the file is damaged")
  shapes = [shape, *[colour.chroma_shape(layout, shape)] * 2]
  return [plane[:height, :width] for plane, (height, width) in zip(_samples(frame, layout.depth), shapes)]


def _samples(frame: av.VideoFrame, depth: int) -> list[np.ndarray]:
  """The planes as arrays [h w] in the frame's own memory."""
  dtype = np.dtype("u1" if depth == 8 else "<u2")
  rows = [np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize) for plane in frame.planes]
  return [array[: plane.height, : plane.width] for array, plane in zip(rows, frame.planes)]


@functools.cache
def _libraries() -> str:
  """Versions of what makes bytes and pixels: x265 names itself in a stream, when it is let."""
  libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
  options = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
  encoder = video_frames.open_encoder("bpg", "libx265", (64, 64), "yuv420p", options)
  packets = [*encoder.encode(av.VideoFrame(64, 64, "yuv420p")), *encoder.encode(None)]
  return f"av {av.__version__}, libavcodec {libavcodec}, {video_stream.letter('hevc', b''.join(map(bytes, packets)))}"
