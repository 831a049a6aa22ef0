"""The fields of a sequence parameter set (SPS) that a BPG file keeps: how blocks of an HEVC picture are coded.

    fields in a BPG file ──read──▶ Coding ──check──▶ sound
                         ◀─write──

Each group of fields stands in an SPS just as it does here, with others between the groups (`hevc_sps.py`). Names follow
ITU-T H.265, 7.3.2.2.
"""

from __future__ import annotations

from typing import NamedTuple

from robust_compress.codecs.nal import BitReader, BitWriter
from robust_compress.types import CodecError

_OUTSIDE_BPG = 0b000110101  # explicit RDPCM, extended precision, high precision offsets, CABAC bypass alignment


class Pcm(NamedTuple):
  """How blocks are stored that are not predicted."""

  luma_bits: int
  chroma_bits: int
  log2_min_size: int
  log2_size_range: int
  loop_filter_disabled: bool


class Coding(NamedTuple):
  """The fields that a BPG file keeps."""

  log2_min_block: int
  log2_block_range: int
  log2_min_transform: int
  log2_transform_range: int
  intra_depth: int  # of transforms in a coding block
  sao: bool
  pcm: Pcm | None
  strong_smoothing: bool
  range_extension: int | None  # nine flags


def check(coding: Coding, depth: int) -> None:
  """Raises CodecError for block sizes and depths that HEVC does not have, before they size anything."""
  largest = coding.log2_min_block + coding.log2_block_range
  largest_transform = coding.log2_min_transform + coding.log2_transform_range
  sound = (
    4 <= largest <= 6
    and coding.log2_min_transform < coding.log2_min_block
    and largest_transform <= min(largest, 5)
    and coding.intra_depth <= largest - coding.log2_min_transform
    and not (coding.range_extension or 0) & _OUTSIDE_BPG
  )
  if coding.pcm is not None:
    smallest, range_, limit = coding.pcm.log2_min_size, coding.pcm.log2_size_range, min(largest, 5)
    sound &= min(coding.log2_min_block, 5) <= smallest <= smallest + range_ <= limit
    sound &= max(coding.pcm.luma_bits, coding.pcm.chroma_bits) <= depth
  if not sound:
    raise CodecError(f"{coding} is not possible; the header is damaged")


def read(data: bytes) -> Coding:
  """The fields from the bytes that a file has of them. Raises CodecError where they end too soon."""
  bits = BitReader(data)
  sizes, intra_depth, sao = read_sizes(bits), bits.ue(), bits.flag()
  return Coding(*sizes, intra_depth, sao, read_pcm(bits), bits.flag(), read_extension(bits))


def write(coding: Coding) -> bytes:
  """The inverse of `read`."""
  bits = BitWriter()
  write_sizes(bits, coding)
  bits.ue(coding.intra_depth)
  bits.flag(coding.sao)
  write_pcm(bits, coding.pcm)
  bits.flag(coding.strong_smoothing)
  write_extension(bits, coding.range_extension)
  return bits.bytes()


# --------------------------------------------------------------------------------------- groups of fields


def read_sizes(bits: BitReader) -> tuple[int, int, int, int]:
  return bits.ue() + 3, bits.ue(), bits.ue() + 2, bits.ue()


def write_sizes(bits: BitWriter, coding: Coding) -> None:
  bits.ue(coding.log2_min_block - 3)
  bits.ue(coding.log2_block_range)
  bits.ue(coding.log2_min_transform - 2)
  bits.ue(coding.log2_transform_range)


def read_pcm(bits: BitReader) -> Pcm | None:
  return Pcm(bits.u(4) + 1, bits.u(4) + 1, bits.ue() + 3, bits.ue(), bits.flag()) if bits.flag() else None


def write_pcm(bits: BitWriter, pcm: Pcm | None) -> None:
  bits.flag(pcm is not None)
  if pcm is not None:
    bits.u(4, pcm.luma_bits - 1)
    bits.u(4, pcm.chroma_bits - 1)
    bits.ue(pcm.log2_min_size - 3)
    bits.ue(pcm.log2_size_range)
    bits.flag(pcm.loop_filter_disabled)


def read_extension(bits: BitReader) -> int | None:
  """The flags of the range extension; any other one is an error."""
  if not bits.flag():
    return None
  has_range, others = bits.flag(), bits.u(7)
  if others:
    raise CodecError("an extension of the SPS that a BPG file cannot have")
  return bits.u(9) if has_range else None


def write_extension(bits: BitWriter, flags: int | None) -> None:
  bits.flag(flags is not None)
  if flags is not None:
    bits.u(8, 1 << 7)
    bits.u(9, flags)
