"""Whole numbers in as few bytes as they need: base 128, low digits first, the high bit of a byte meaning "more"."""

from __future__ import annotations

from robust_compress.types import CodecError

MAX_BYTES = 5  # of a number that is read: 35 bits


def write(number: int) -> bytes:
  digits = bytearray()
  while number > 127:
    digits.append(number & 127 | 128)
    number >>= 7
  return bytes([*digits, number])


def read(name: str, data: bytes, at: int) -> tuple[int, int]:
  """(number, where it ends). Raises CodecError, which begins with `name`, where none ends within `MAX_BYTES`."""
  number = 0
  for index, digit in enumerate(data[at : at + MAX_BYTES]):
    number |= (digit & 127) << 7 * index
    if digit < 128:
      return number, at + index + 1
  raise CodecError(f"{name}: no number ends within {MAX_BYTES} bytes of byte {at}; damaged or cut short")
