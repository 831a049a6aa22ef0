"""NAL units of H.264 and HEVC: the byte stream they stand in, and the bit fields inside them.

    stream ──split──▶ units ──unescape──▶ rbsp ──BitReader──▶ u(n), flag, ue, se
    stream ◀──join─── units ◀──escape──── rbsp ◀──BitWriter── u(n), flag, ue, se

The byte stream is that of Annex B: every unit stands behind a start code 00 00 01, and inside a unit a byte 03 keeps
two zeros from making one. Headers are read bit by bit; coded pictures are only ever carried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from robust_compress.types import CodecError

_START = b"\0\0\1"
_UNSAFE = re.compile(rb"\0\0(?=[\0-\3])")


def split(stream: bytes) -> list[bytes]:
  """The units of an Annex B stream, without start codes and without the zeros that may stand between units.

  Raises CodecError for bytes before the first start code; a stream of no bytes has no units.
  """
  lead, *units = stream.split(_START)
  if lead.strip(b"\0"):
    raise CodecError(f"{len(stream)} bytes that do not begin with a start code; expected an Annex B stream")
  return [unit for unit in (unit.rstrip(b"\0") for unit in units) if unit]


def join(units: Iterable[bytes], start_code: bytes = b"\0\0\0\1") -> bytes:
  """The inverse of `split`."""
  return b"".join(start_code + unit for unit in units)


def unescape(unit: bytes) -> bytes:
  """A unit without the bytes 03 that keep start codes out of it."""
  return unit.replace(b"\0\0\3", b"\0\0")


def escape(rbsp: bytes) -> bytes:
  """The inverse of `unescape`. What ends in one zero byte is no RBSP: that ends in its stop bit, or in 00 00."""
  escaped = _UNSAFE.sub(b"\0\0\3", rbsp)
  return escaped + b"\3" if escaped.endswith(b"\0\0") else escaped


class BitReader:
  """Reads big-endian bit fields, one after another. Every read past the end is a CodecError."""

  def __init__(self, data: bytes):
    self._data = data
    self._position = 0  # in bits

  @property
  def remaining(self) -> int:
    """Bits that are left."""
    return 8 * len(self._data) - self._position

  def u(self, n_bits: int) -> int:
    """An unsigned integer of n bits."""
    if n_bits > self.remaining:
      raise CodecError(f"a header of {len(self._data)} bytes ends inside a field of {n_bits} bits; it is cut short")
    end = self._position + n_bits
    window = int.from_bytes(self._data[self._position // 8 : (end + 7) // 8], "big")
    self._position = end
    return (window >> (-end % 8)) & ((1 << n_bits) - 1)

  def flag(self) -> bool:
    return self.u(1) == 1

  def ue(self) -> int:
    """An unsigned Exp-Golomb code, below 2**32 - 1 as both standards have it."""
    n_zeros = 0
    while not self.flag():
      n_zeros += 1
      if n_zeros == 32:
        raise CodecError("an Exp-Golomb code of more than 32 bits; the header is damaged")
    return (1 << n_zeros) - 1 + self.u(n_zeros)


class BitWriter:
  """Writes what `BitReader` reads."""

  def __init__(self):
    self._value = 0
    self._n_bits = 0

  def u(self, n_bits: int, value: int) -> None:
    if not 0 <= value < 1 << n_bits:
      raise ValueError(f"{value} does not fit in an unsigned field of {n_bits} bits")
    self._value = (self._value << n_bits) | value
    self._n_bits += n_bits

  def flag(self, value: bool) -> None:
    self.u(1, int(value))

  def ue(self, value: int) -> None:
    n_bits = (value + 1).bit_length()
    self.u(2 * n_bits - 1, value + 1)

  def align(self) -> None:
    """Zeros up to the next byte."""
    self.u(-self._n_bits % 8, 0)

  def trail(self) -> None:
    """The end of an RBSP: the stop bit, then zeros up to the next byte."""
    self.flag(True)
    self.align()

  def bytes(self) -> bytes:
    """All that was written, the last byte filled up with zeros."""
    n_bytes = (self._n_bits + 7) // 8
    return (self._value << (-self._n_bits % 8)).to_bytes(n_bytes, "big")
