"""One picture to a blob and back.

    pixels ──pad──▶ analysis ──▶ y ──strings──▶ container ──▶ blob ──▶ strings ──▶ ŷ ──▶ synthesis ──crop──▶ pixels
                                       └─▶ ŷ ──▶ synthesis ──crop──▶ the same pixels, where they are asked for

A picture of any size is padded at the right and below, by its last pixels, to sides that the network takes.
"""

from __future__ import annotations

import numpy as np

from robust_compress.codecs.frames import MAX_PIXELS
from robust_compress.codecs.learned import container, strings
from robust_compress.codecs.learned.coders import load_coder
from robust_compress.codecs.learned.container import Contents, Header
from robust_compress.codecs.learned.programs import Programs
from robust_compress.types import CodecError


def encode(
  programs: Programs, frame: np.ndarray, level: float, coder: str, reconstruct: bool
) -> tuple[bytes, np.ndarray | None]:
  """uint8[h w 3] at a level that a blob can name: (blob, what `decode` gives of it, where `reconstruct` asks for that).

  Raises CodecError for latents that cannot be coded: not finite, or far too large; and for a picture too narrow.
  """
  height, width = frame.shape[:2]
  y = programs.analysis(padded(programs, frame), level)
  header = Header(programs.loaded.network, programs.loaded.key, height, width, level, coder)
  try:
    written, latents = strings.write(programs, y, level, load_coder(coder))
  except CodecError as error:
    raise CodecError(f"{header.model}: {error}") from error
  decoded = programs.synthesis(latents.y_hat, level)[:height, :width] if reconstruct else None
  return container.write(header, written, latents.symbols), decoded


def decode(programs: Programs, contents: Contents) -> np.ndarray:
  """uint8[h w 3], by the programs of the weights that the header names. Symbols are checked before the synthesis.

  Raises CodecError for strings that are damaged or decode differently here, and for a size that `encode` refuses.
  """
  header = contents.header
  height, width = (side // 16 for side in _padded_sides(programs, header.height, header.width))
  try:
    latents = strings.read(programs, contents.strings, (height, width), header.level, load_coder(header.coder))
  except CodecError as error:  # the bytes and the weights were checked: most likely the probabilities are others
    raise CodecError(f"{header.model}: {error}; or {container.OTHERWISE}") from error
  container.check(contents, latents.symbols)
  return programs.synthesis(latents.y_hat, header.level)[: header.height, : header.width]


def padded(programs: Programs, frame: np.ndarray) -> np.ndarray:
  """uint8[h w 3] with sides that the network takes. Raises CodecError for a picture too narrow."""
  height, width = frame.shape[:2]
  sides = _padded_sides(programs, height, width)
  padding = [(0, whole - side) for whole, side in zip(sides, (height, width))]
  return np.pad(frame, (*padding, (0, 0)), mode="edge")


def _padded_sides(programs: Programs, height: int, width: int) -> tuple[int, int]:
  """Sides that the network takes. Raises CodecError where padding makes an enormous picture of a narrow one."""
  padded_height, padded_width = (-(-side // programs.stride) * programs.stride for side in (height, width))
  if padded_height * padded_width > 2 * MAX_PIXELS:  # one at the limit on pixels is hardly padded
    raise CodecError(
      f"{programs.loaded.network}: {width}x{height} is too narrow, it is padded to {padded_width}x{padded_height}; "
      f"expected at most {2 * MAX_PIXELS} pixels with padding"
    )
  return padded_height, padded_width
