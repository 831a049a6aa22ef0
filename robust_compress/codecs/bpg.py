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

from robust_compress.codecs import bpg_container, bpg_programs, checks, colour, frames, video_frames, video_stream
from robust_compress.codecs.bpg_container import Contents
from robust_compress.codecs.colour import Layout
from robust_compress.specs import format_call
from robust_compress.types import Clip, CodecError, Coded

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

  def __post_init__(self):
    choices = {"chroma": (420, 444), "depth": (8, 10), "preset": bpg_programs.PRESETS, "backend": ("builtin", "libbpg")}
    for option, allowed in choices.items():
      checks.choice(self.name, option, getattr(self, option), allowed)
    if self.backend == "libbpg":
      bpg_programs.version()

  def fingerprint(self) -> str:
    options = {key: getattr(self, key) for key in ("chroma", "depth", "preset", "backend")}
    libraries = bpg_programs.version() if self.backend == "libbpg" else _libraries()
    return f"{format_call(self.name, options)}, {libraries}"

  def check_level(self, level: float) -> None:
    checks.level(self.name, level, (51, 0), "QP", is_whole=True)

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
  layout, planes = to_planes(frame, chroma, depth)
  return bpg_container.write(encode_planes(planes, layout, qp, preset), height, width, layout)


def decode_frame(contents: Contents) -> np.ndarray:
  """What `bpg_container.read` found in a file, to uint8[h w 3]."""
  return colour.to_rgb(decode_planes(contents), contents.layout)


def to_planes(frame: np.ndarray, chroma: int, depth: int) -> tuple[Layout, list[np.ndarray]]:
  """uint8[h w 3] to the planes that are coded."""
  if all(np.array_equal(frame[..., 0], frame[..., i]) for i in (1, 2)):
    return Layout(depth, 400), [colour.to_grey(frame[..., 0], depth)]
  luma, *planes = colour.to_ycbcr(frame, depth)
  return Layout(depth, chroma), [luma, *(colour.halved(plane, depth) if chroma == 420 else plane for plane in planes)]


def encode_planes(planes: Sequence[np.ndarray], layout: Layout, qp: int, preset: str) -> bytes:
  """An Annex B stream of one I frame, of the planes filled up to whole blocks."""
  height, width = planes[0].shape
  block = 8 if min(height, width) > 8 else 16  # libx265 codes no picture that is smaller
  size = -(-height // block) * block, -(-width // block) * block
  options = encoder_settings(qp, preset, block)
  encoder = video_frames.open_encoder("bpg", "libx265", size, pixel_format(layout), options)
  frame = av.VideoFrame(size[1], size[0], pixel_format(layout))
  for target, plane in zip(_samples(frame, layout.depth), planes, strict=True):
    below, right = (coded - own for coded, own in zip(target.shape, plane.shape))
    target[:] = np.pad(plane, ((0, below), (0, right)), "edge")
  try:
    return b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
  except av.FFmpegError as error:
    raise CodecError(f"bpg: cannot code a picture of {width}x{height} pixels: {error}") from error


def encoder_settings(qp: int, preset: str, block: int = 8) -> dict[str, str]:
  """Options of libx265 for pictures of whole blocks of 8 or 16 pixels a side."""
  sizes = f":qp={qp}:min-cu-size={block}" + (":ctu=16:tu-intra-depth=1:tu-inter-depth=1" if block == 16 else "")
  return {"preset": preset, "tune": "ssim", "x265-params": _SETTINGS + sizes}


def decode_planes(contents: Contents) -> list[np.ndarray]:
  """The planes of a file's picture, cropped.

  Raises CodecError for a stream that errs, or that holds another picture than its header declares.
  """
  layout, (height, width) = contents.layout, contents.coded_size
  decoder = av.CodecContext.create("hevc", "r")
  decoder.thread_count = 1
  decoder.options = {"err_detect": "explode", "max_pixels": str((height + 128) * (width + 128))}
  stream = bpg_container.annex_b(contents)
  packet = av.Packet(len(stream))  # and room behind it, into which FFmpeg's readers may look
  packet.update(stream)
  try:
    decoded = [*decoder.decode(packet), *decoder.decode(None)]
  except (av.FFmpegError, ValueError) as error:
    raise CodecError(f"bpg: the picture's data is damaged: {error}") from error
  found = [(frame.height, frame.width, frame.format.name) for frame in decoded]
  if found != [(height, width, pixel_format(layout))]:
    expected = height, width, pixel_format(layout)
    raise CodecError(f"bpg: pictures in the data are {found}; expected one, {expected}; the file is damaged")
  shape = contents.height, contents.width
  shapes = [shape, *[colour.chroma_shape(layout, shape)] * 2]
  return [plane[:rows, :columns] for plane, (rows, columns) in zip(_samples(decoded[0], layout.depth), shapes)]


def pixel_format(layout: Layout) -> str:
  """FFmpeg's name of it."""
  name = {400: "gray", 420: "yuv420p", 422: "yuv422p", 444: "yuv444p"}[layout.chroma]
  return name if layout.depth == 8 else f"{name}{layout.depth}le"


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
