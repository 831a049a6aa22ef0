"""Clips through FFmpeg's encoders and decoders, in process by PyAV, as the ffmpeg program takes them there.

    clip[t h w 3] ──pad──▶ rgb24 ──swscale──▶ yuv ──encoder──▶ packets
    clip[t h w 3] ◀──cut── rgb24 ◀──swscale── yuv ◀──decoder───┘

Colour is converted with the flags and defaults of the scaler that the ffmpeg program puts between PNG files and an
encoder: bicubic, BT.601, limited range. So pixels equal those of the program, where its libraries are of the same make.
Everything runs in one thread a clip, as more would change the streams, and releases the GIL while it codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from robust_compress.codecs.video_stream import Header
from robust_compress.types import Clip, CodecError, SpecError

RATE = 25  # frames a second: what ffmpeg takes numbered pictures for
PIXEL_FORMATS = {420: "yuv420p", 444: "yuv444p"}
_MULTIPLE = {"yuv420p": 2, "yuv444p": 1}  # of which a side has to be one
# A stream that errs ends in an error instead of a guess.
_STRICT = {"err_detect": "explode+bitstream+buffer+crccheck"}
_MARGIN = 128  # pixels by which a decoder's own buffers may exceed a picture


def padded_size(height: int, width: int, pixel_format: str, smallest: int) -> tuple[int, int]:
  """The size (h, w) at which an encoder codes a picture: at least `smallest`, and even where chroma is halved."""
  height, width = (max(smallest, side + -side % _MULTIPLE[pixel_format]) for side in (height, width))
  return height, width


def pad(clip: Clip, size: tuple[int, int]) -> Clip:
  """Edges replicated to the right and below, up to a size (h, w)."""
  below, right = size[0] - clip.shape[1], size[1] - clip.shape[2]
  return np.pad(clip, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge") if below or right else clip


def open_encoder(
  name: str, encoder: str, size: tuple[int, int], pixel_format: str, options: Mapping[str, str]
) -> av.VideoCodecContext:
  """An encoder for frames of one size (h, w).

  Raises:
    SpecError: options that the encoder does not know; FFmpeg by itself would ignore them.
    CodecError: a size that it cannot code, or an option's value that it refuses.
  """
  context = av.CodecContext.create(encoder, "w")
  context.height, context.width = size
  context.pix_fmt, context.thread_count = pixel_format, 1
  context.framerate, context.time_base = Fraction(RATE), Fraction(1, RATE)
  context.options = dict(options)
  try:
    context.open()
  except (av.FFmpegError, ValueError) as error:
    given = " ".join(f"{key}={value}" for key, value in options.items())
    raise CodecError(f"{name}: {encoder} refuses {size[1]}x{size[0]} pixels with {given}: {error}") from error
  if context.options:
    unknown = ", ".join(map(repr, context.options))
    raise SpecError(f"{name}: {encoder} has no option {unknown}; `ffmpeg -h encoder={encoder}` lists them")
  return context


def encode(name: str, context: av.VideoCodecContext, clip: Clip) -> list[bytes]:
  """The packets of uint8[t h w 3], of the size that the encoder was opened for."""
  packets: list[av.Packet] = []
  to_yuv = VideoReformatter()
  try:
    for index, pixels in enumerate(clip):
      rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
      frame = to_yuv.reformat(rgb, format=context.pix_fmt, interpolation=Interpolation.BICUBIC, threads=1)
      frame.pts = index
      packets += context.encode(frame)
    packets += context.encode(None)
  except av.FFmpegError as error:
    raise CodecError(f"{name}: cannot code {list(clip.shape)}: {error}") from error
  return [bytes(packet) for packet in packets]


def decode(decoder: str, packets: Sequence[bytes], header: Header, smallest: int) -> Clip:
  """The clip of a stream.

  Args:
    decoder: FFmpeg's name of it.
    packets: of one frame each, in coding order.
    header: what the clip must turn out to be.
    smallest: side that the encoder pads to.

  Raises:
    CodecError: a stream that errs, or that holds frames of another number or size than `header` declares.
  """
  name, n_frames = header.codec, header.n_frames
  clip = np.empty((n_frames, header.height, header.width, 3), np.uint8)
  context, to_rgb, index = _open_decoder(decoder, clip), VideoReformatter(), 0
  try:
    for packet in [*map(_packet, packets), None]:
      for frame in context.decode(packet):
        if index == n_frames:
          raise CodecError(f"{name}: more frames than the {n_frames} that its header declares; the clip is damaged")
        _check_frame(frame, header, smallest)
        rgb = to_rgb.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        clip[index] = rgb.to_ndarray()[: header.height, : header.width]
        index += 1
  except (av.FFmpegError, ValueError) as error:
    raise CodecError(f"{name}: damaged at frame {index} of {n_frames}: {error}") from error
  if index < n_frames:
    raise CodecError(f"{name}: {index} frames where its header declares {n_frames}; the clip is damaged")
  return clip


def _open_decoder(decoder: str, clip: Clip) -> av.VideoCodecContext:
  """A decoder that refuses to make frames larger than those of `clip`, before it has room made for them."""
  context = av.CodecContext.create(decoder, "r")
  context.thread_count = 1
  most = (clip.shape[1] + _MARGIN) * (clip.shape[2] + _MARGIN)
  context.options = {**_STRICT, "max_pixels": str(most)}
  return context


def _packet(data: bytes) -> av.Packet:
  """A copy with room behind it, which FFmpeg's readers may look into."""
  packet = av.Packet(len(data))
  packet.update(data)
  return packet


def _check_frame(frame: av.VideoFrame, header: Header, smallest: int) -> None:
  if frame.format.name not in _MULTIPLE:
    raise CodecError(f"{header.codec}: a frame in {frame.format.name}, expected one of {', '.join(_MULTIPLE)}; damaged")
  height, width = padded_size(header.height, header.width, frame.format.name, smallest)
  if (frame.height, frame.width) != (height, width):
    raise CodecError(f"{header.codec}: a frame of {frame.width}x{frame.height}, expected {width}x{height}; damaged")
