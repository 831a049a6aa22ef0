"""Clips by codecs of single pictures: one file a frame, and one limit on size for every decoder.

    clip[t h w 3] ──encode_one──▶ files ──pack──▶ blob ──unpack──▶ files ──open_one──▶ sizes ──decode_one──▶ clip

A still picture is the plain file, so that any viewer opens it. A clip of several frames is

    'CLIP' │ uint32 t │ uint32 × t lengths │ file │ file │ …          (little endian; the table is paid for)
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robust_compress.types import Clip, CodecError

MAX_PIXELS = 89_478_485  # of a whole clip, t·h·w; for one picture this is Pillow's own limit
_MAGIC = b"CLIP"


def encode_frames(clip: Clip, encode_one: Callable[[np.ndarray], bytes]) -> bytes:
  """uint8[t h w 3] to one blob, of a file a frame; `encode_one` codes uint8[h w 3]."""
  files = [encode_one(frame) for frame in clip]
  return files[0] if len(files) == 1 else pack(files)


def decode_frames(
  blob: bytes,
  name: str,
  decode_one: Callable[[Any], np.ndarray],
  open_one: Callable[[bytes], Any],
) -> Clip:
  """The inverse of `encode_frames`, for bytes that may be anything.

  Args:
    blob: of one file, or of several behind their table.
    name: of the codec, for errors.
    decode_one: what `open_one` returned to uint8[h w 3].
    open_one: reads a file's header and returns something with `height` and `width`, so that sizes are checked before
      a pixel is decoded.

  Raises:
    CodecError: a damaged table, frames of several sizes, more than `MAX_PIXELS` pixels in all.
  """
  files = unpack(blob, name)
  first = open_one(files[0])
  check_size(name, (len(files), first.height, first.width))
  if len(files) == 1:
    return _pixels(name, decode_one, first)[None]
  clip = np.empty((len(files), first.height, first.width, 3), np.uint8)
  for index, file in enumerate(files):
    frame = open_one(file) if index else first
    if (frame.height, frame.width) != clip.shape[1:3]:
      sizes = [f"{width}x{height}" for height, width in ((frame.height, frame.width), clip.shape[1:3])]
      raise CodecError(f"{name}: frame {index} is {sizes[0]}, the first one {sizes[1]}; expected one size")
    clip[index] = _pixels(name, decode_one, frame)
  return clip


def _pixels(name: str, decode_one: Callable[[Any], np.ndarray], header: Any) -> np.ndarray:
  declared = header.height, header.width, 3  # before it is decoded: a damaged file may then say something else
  pixels = decode_one(header)
  if pixels.shape != declared:
    raise CodecError(f"{name}: decodes to {list(pixels.shape)} where {list(declared)} is declared; it is damaged")
  return pixels


# ----------------------------------------------------------------------------------------------- checks


def check_clip(name: str, clip: Clip) -> None:
  """Raises CodecError for what is no clip, is empty, or is larger than what may be decoded again."""
  if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or clip.size == 0:
    raise CodecError(f"{name}: cannot code {clip.dtype}{list(clip.shape)}; expected uint8[t h w 3], not empty")
  check_size(name, clip.shape[:3])


def check_size(name: str, shape: Sequence[int]) -> None:
  """Raises CodecError for a size (t, h, w), as a header declares it, that is empty or over `MAX_PIXELS`."""
  n_frames, height, width = (int(length) for length in shape)
  if min(n_frames, height, width) < 1:
    raise CodecError(f"{name}: {[n_frames, height, width, 3]} holds no pixel")
  if n_frames * height * width > MAX_PIXELS:
    raise CodecError(f"{name}: {[n_frames, height, width, 3]} is over the limit of {MAX_PIXELS} pixels")


# ----------------------------------------------------------------------------------------- several files


def pack(files: Sequence[bytes]) -> bytes:
  """Files of the frames of a clip as one blob, behind a table of their lengths."""
  return b"".join([_MAGIC, struct.pack(f"<{len(files) + 1}I", len(files), *map(len, files)), *files])


def unpack(blob: bytes, name: str = "clip") -> list[bytes]:
  """The inverse of `pack`; a blob without a table is one file. Raises CodecError for a table that does not add up."""
  if blob[:4] != _MAGIC:
    return [blob]
  n_frames = int.from_bytes(blob[4:8], "little")
  table_end = 8 + 4 * n_frames
  if n_frames == 0 or table_end > len(blob):
    raise CodecError(f"{name}: a table of {n_frames} frames does not fit in {len(blob)} bytes; the clip is damaged")
  lengths = struct.unpack_from(f"<{n_frames}I", blob, 8)
  if table_end + sum(lengths) != len(blob):
    expected = table_end + sum(lengths)
    raise CodecError(f"{name}: {len(blob)} bytes where the frame table declares {expected}; the clip is damaged")
  ends = np.cumsum((table_end, *lengths))
  return [blob[start:end] for start, end in itertools.pairwise(ends)]
