"""The blob of a learned codec: a header of at most 20 bytes, then the strings of an entropy coder.

    tag │ kind │ weights │ width │ height │ level │ lengths │ damage │ checksum │ strings
     1     1       4       varints (≤ 5)      2     varints     1         3

    kind      5 bits: the model's number; 2: strings less one; 1: the coder's number
    weights   the first 4 bytes of a hash of the weights, without which nothing can be decoded
    level     in 256ths, little endian
    lengths   of all strings but the last, which goes to the end
    damage    the low 8 bits of the CRC-32 of all other bytes
    checksum  the low 24 bits of the CRC-32 of what stands before it, without `damage`, and of the symbols

All of it is paid for. A string decodes to some symbols whatever it is, and to wrong ones where the decoder computes
other probabilities than the encoder did. The checksum tells; `damage` tells it from a broken file.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from robust_compress.codecs import varint
from robust_compress.codecs.frames import check_size
from robust_compress.specs import nearest
from robust_compress.types import CodecError

TAG = 0xE1  # another layout would take another one
LEVEL_STEPS = 256  # between whole levels
MODELS = (  # a model's number is its place: add at the end
  "bmshj2018-factorized",
  "bmshj2018-hyperprior",
  "mbt2018-mean",
  "mbt2018",
  "cheng2020-anchor",
  "cheng2020-attn",
  "cheng2020-gmm",
)
CODERS = ("constriction", "tfc")
MAX_STRINGS = 4
OTHERWISE = (
  "this machine computes other probabilities than the encoder's did. Decode on the same kind of device and processor, "
  "with the same versions"
)
_MAX_LEVEL = (1 << 16) / LEVEL_STEPS


class Header(NamedTuple):
  """What a blob says before anything is decoded."""

  model: str
  weights: str  # 8 hexadecimal digits
  height: int
  width: int
  level: float  # a multiple of 1 / LEVEL_STEPS
  coder: str = CODERS[0]


class Contents(NamedTuple):
  """What a blob holds."""

  header: Header
  strings: tuple[bytes, ...]
  checksum: int  # of the symbols behind `start`
  start: int  # CRC-32 of the header


def round_level(level: float) -> float:
  """The nearest level that a blob can name; coding at any other is an error."""
  return round(level * LEVEL_STEPS) / LEVEL_STEPS


def write(header: Header, strings: Sequence[bytes], symbols: Iterable[np.ndarray]) -> bytes:
  """One blob.

  Args:
    header: of the picture.
    strings: 1 to 4.
    symbols: int32 arrays of any shape, in an order that the decoder can repeat.

  Raises:
    CodecError: a model or coder without a number, a level or a size that cannot be written, too many strings.
  """
  steps = header.level * LEVEL_STEPS
  if not 0 <= header.level < _MAX_LEVEL or steps != int(steps):
    raise CodecError(f"{header.model}: level {header.level} is no multiple of 1/{LEVEL_STEPS} under {_MAX_LEVEL:g}")
  check_size(header.model, (1, header.height, header.width))
  start = (
    bytes([TAG, _kind(header, len(strings))])
    + _weights(header)
    + varint.write(header.width)
    + varint.write(header.height)
  )
  start += int(steps).to_bytes(2, "little") + b"".join(varint.write(len(string)) for string in strings[:-1])
  rest = _checksum(zlib.crc32(start), symbols).to_bytes(3, "little") + b"".join(strings)
  return start + _damage(start, rest) + rest


def read(blob: bytes) -> Contents:
  """The inverse of `write`, for bytes that may be anything. Nothing is allocated by what they declare.

  Raises:
    CodecError: another format, an unknown model, a size over the limit of `frames`, strings that are cut short, damage.
  """
  if len(blob) < 2 or blob[0] != TAG:
    raise CodecError(f"learned: {len(blob)} bytes are not of a learned codec, whose first is {TAG:#x}")
  model, n_strings, coder = blob[1] >> 3, (blob[1] >> 1 & 3) + 1, blob[1] & 1
  if model >= len(MODELS):
    raise CodecError(f"learned: there is no model {model}, they go to {len(MODELS) - 1}; a newer version's, or damaged")
  name = MODELS[model]
  width, at = varint.read(name, blob, 6)
  height, at = varint.read(name, blob, at)
  check_size(name, (1, height, width))
  level, at = int.from_bytes(blob[at : at + 2], "little") / LEVEL_STEPS, at + 2
  lengths = []
  for _ in range(n_strings - 1):
    length, at = varint.read(name, blob, at)
    lengths.append(length)
  strings = _split(name, blob, at + 4, lengths)
  if _damage(blob[:at], blob[at + 1 :]) != blob[at : at + 1]:
    raise CodecError(f"{name}: the checksum over {len(blob)} bytes is wrong; the blob is damaged or cut short")
  header = Header(name, blob[2:6].hex(), height, width, level, CODERS[coder])
  return Contents(header, strings, int.from_bytes(blob[at + 1 : at + 4], "little"), zlib.crc32(blob[:at]))


def require(header: Header, weights: str) -> None:
  """Raises CodecError unless 8 hexadecimal digits of `weights` are those that a picture was coded with."""
  if header.weights != weights:
    raise CodecError(
      f"{header.model}: coded with the weights {header.weights}; those at hand are {weights}. Decode with the former"
    )


def check(contents: Contents, symbols: Iterable[np.ndarray]) -> None:
  """Raises CodecError unless the decoded symbols are those that were coded. They come as `write` took them."""
  if _checksum(contents.start, symbols) != contents.checksum:
    raise CodecError(
      f"{contents.header.model}: decodes to other symbols than were coded: {OTHERWISE}; or the blob is damaged"
    )


# --------------------------------------------------------------------------------------------------- parts


def _kind(header: Header, n_strings: int) -> int:
  for what, name, names in (("learned model", header.model, MODELS), ("coder", header.coder, CODERS)):
    if name not in names:
      raise nearest(what, name, names)
  if not 1 <= n_strings <= MAX_STRINGS:
    raise CodecError(f"{header.model}: {n_strings} strings; expected 1 to {MAX_STRINGS}")
  return MODELS.index(header.model) << 3 | (n_strings - 1) << 1 | CODERS.index(header.coder)


def _weights(header: Header) -> bytes:
  if not re.fullmatch("[0-9a-f]{8}", header.weights):
    raise CodecError(f"{header.model}: weights {header.weights!r}; expected 8 hexadecimal digits")
  return bytes.fromhex(header.weights)


def _damage(start: bytes, rest: bytes) -> bytes:
  return bytes([zlib.crc32(rest, zlib.crc32(start)) & 0xFF])


def _checksum(crc: int, symbols: Iterable[np.ndarray]) -> int:
  for part in symbols:
    crc = zlib.crc32(np.ascontiguousarray(part, "<i4").data, crc)
  return crc & 0xFFFFFF


def _split(name: str, blob: bytes, start: int, lengths: list[int]) -> tuple[bytes, ...]:
  """The strings, of which the last has no length of its own."""
  ends = [*itertools.accumulate(lengths, initial=start)]
  if ends[-1] > len(blob):
    raise CodecError(f"{name}: {len(blob)} bytes where the header declares {ends[-1]} or more; the blob is cut short")
  return tuple(blob[start:end] for start, end in itertools.pairwise([*ends, len(blob)]))
