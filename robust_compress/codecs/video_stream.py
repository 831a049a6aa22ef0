"""The blob of a video codec: a header of at most 12 bytes, then the stream as its standard has it.

    tag │ width │ height │ frames │ frames a second │ checksum │ stream
    1 byte        varints (base 128, low digits first)   3 bytes

    h264, hevc   Annex B: NAL units behind start codes, parameter sets among them, the encoder's own letter left out
    av1          OBUs in the low-overhead format; a temporal delimiter begins every frame
    vp9          every frame behind its length as a varint

All of it is paid for. The checksum is the low 24 bits of the CRC-32 of everything else: decoders conceal damage, and a
stream that lost its last bytes may decode without a word. `split` gives the packets that a decoder takes, one a frame.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from robust_compress.codecs import frames, nal, varint
from robust_compress.types import CodecError

TAGS = {"h264": 0xD1, "hevc": 0xD2, "av1": 0xD3, "vp9": 0xD4}  # another layout would take another first digit
_CHECKSUM_BYTES = 3


class Header(NamedTuple):
  """What a blob says of its clip before anything is decoded."""

  codec: str
  width: int
  height: int
  n_frames: int
  rate: int  # frames a second; the time base is its inverse


def pack(header: Header, stream: bytes) -> bytes:
  """One blob."""
  _, *numbers = header
  start = bytes([TAGS[header.codec]]) + b"".join(map(varint.write, numbers))
  return start + _checksum(start, stream) + stream


def unpack(blob: bytes, codec: str) -> tuple[Header, bytes]:
  """The inverse of `pack`: header and stream.

  Raises CodecError for another format, a wrong checksum, or a declared size over the limit of `frames`.
  """
  header, end = _read_header(blob, codec)
  stream = blob[end + _CHECKSUM_BYTES :]
  if _checksum(blob[:end], stream) != blob[end : end + _CHECKSUM_BYTES]:
    raise CodecError(f"{codec}: the checksum over {len(blob)} bytes is wrong; the clip is damaged or cut short")
  frames.check_size(codec, (header.n_frames, header.height, header.width))
  return header, stream


def join(codec: str, packets: Iterable[bytes]) -> bytes:
  """An encoder's packets, in their order, as one stream."""
  if codec in _NAL_HEADER_BYTES:
    return nal.join(unit for unit in nal.split(b"".join(packets)) if not _is_letter(codec, unit))
  if codec == "vp9":
    return b"".join(varint.write(len(packet)) + packet for packet in packets)
  return b"".join(packets)


def split(codec: str, stream: bytes) -> list[bytes]:
  """A stream as the packets that a decoder takes. Raises CodecError where it does not divide into such."""
  return {"h264": _access_units, "hevc": _access_units, "av1": _temporal_units, "vp9": _sized}[codec](codec, stream)


# -------------------------------------------------------------------------------------------------- header


def _read_header(blob: bytes, codec: str) -> tuple[Header, int]:
  if blob[:1] != bytes([TAGS[codec]]):
    raise CodecError(f"{codec}: {len(blob)} bytes are not a clip of this codec; expected its tag, {TAGS[codec]:#x}")
  numbers, at = [], 1
  for _ in Header._fields[1:]:
    number, at = varint.read(codec, blob, at)
    numbers.append(number)
  return Header(codec, *numbers), at


def _checksum(start: bytes, stream: bytes) -> bytes:
  return (zlib.crc32(stream, zlib.crc32(start)) & 0xFFFFFF).to_bytes(_CHECKSUM_BYTES, "little")


# ------------------------------------------------------------------------------------------- Annex B streams

_NAL_HEADER_BYTES = {"h264": 1, "hevc": 2}
_SEI = {"h264": (6,), "hevc": (39, 40)}
_SLICES = {"h264": range(1, 6), "hevc": range(32)}
_USER_DATA_UNREGISTERED = 5


def _unit_type(codec: str, unit: bytes) -> int:
  return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63


def _is_letter(codec: str, unit: bytes) -> bool:
  """Whether it is the SEI message in which an encoder names itself and its options: up to 700 bytes, no pixel."""
  at = _NAL_HEADER_BYTES[codec]
  return _unit_type(codec, unit) in _SEI[codec] and unit[at : at + 1] == bytes([_USER_DATA_UNREGISTERED])


def letter(codec: str, stream: bytes) -> str:
  """What the encoder calls itself in its letter: 'x264 core 165 r3222'; '' where there is none."""
  for unit in filter(functools.partial(_is_letter, codec), nal.split(stream)):
    _, name, text = nal.unescape(unit).partition(b"x26")
    return " ".join((name + text).decode("ascii", "replace").partition(":")[0].split(" - ")[:2])
  return ""


def _access_units(codec: str, stream: bytes) -> list[bytes]:
  """Units up to the last slice of a frame together. The first slice of a frame has the first bit of its header set."""
  try:
    units = nal.split(stream)
  except CodecError as error:
    raise CodecError(f"{codec}: {error}") from error
  groups: list[list[bytes]] = [[]]
  in_picture, at = False, _NAL_HEADER_BYTES[codec]
  for unit in units:
    is_slice = _unit_type(codec, unit) in _SLICES[codec]
    begins = not is_slice or unit[at : at + 1] >= b"\x80"
    if in_picture and begins:
      groups.append([])
    groups[-1].append(unit)
    in_picture = is_slice
  return [nal.join(group) for group in groups]


# ------------------------------------------------------------------------------------------------ AV1 and VP9

_TEMPORAL_DELIMITER = 2


def _temporal_units(codec: str, stream: bytes) -> list[bytes]:
  """OBUs from one temporal delimiter to the next."""
  starts, at = [], 0
  while at < len(stream):
    kind, is_extended, has_size = stream[at] >> 3 & 15, stream[at] & 4, stream[at] & 2
    if not has_size:
      raise CodecError(f"{codec}: the OBU at byte {at} of the stream has no size; the clip is damaged")
    if kind == _TEMPORAL_DELIMITER or not starts:
      starts.append(at)
    size, at = varint.read(codec, stream, at + (2 if is_extended else 1))
    at += size
  if at > len(stream):
    raise CodecError(f"{codec}: the last OBU ends {at - len(stream)} bytes behind the stream; the clip is damaged")
  return [stream[start:end] for start, end in zip(starts, [*starts[1:], len(stream)])]


def _sized(codec: str, stream: bytes) -> list[bytes]:
  packets, at = [], 0
  while at < len(stream):
    size, at = varint.read(codec, stream, at)
    if size > len(stream) - at:
      raise CodecError(f"{codec}: a frame of {size} bytes with {len(stream) - at} left; the clip is damaged")
    packets.append(stream[at : at + size])
    at += size
  return packets
