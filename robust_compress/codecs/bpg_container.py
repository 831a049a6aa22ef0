"""The BPG file (Bellard's specification, 0.9.8): a header, a few fields of an SPS, and HEVC data without VPS and SPS.

    HEVC stream ──split──▶ VPS SPS PPS slices ──write──▶ 'BPG\\xfb' │ format, size │ fields of the SPS │ PPS slices
    HEVC stream ◀──join─── VPS SPS PPS slices ◀──read─── a file, checked before a decoder sees it

What the SPS says beyond these fields (`bpg_fields.py`) is given by the format: the coded size, for one, is that of the
picture, rounded up to whole smallest blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from robust_compress.codecs import bpg_fields, hevc_sps, nal
from robust_compress.codecs.colour import SPACES, Layout
from robust_compress.codecs.frames import check_size
from robust_compress.types import CodecError

MAGIC = b"BPG\xfb"
DEPTHS = (8, 9, 10, 12)  # that the hevc decoder takes; the format goes to 14
_CHROMA = (400, 420, 422, 444, 420, 422)  # by pixel_format; chroma of the last two is placed as in MPEG-2
_MPEG2 = 4  # pixel_format from here on
_MAX_LENGTH = 2**30 - 1  # of anything
_SPS, _PPS = 33, 34  # nal_unit_type; slices are below 32


class Contents(NamedTuple):
  """What a file holds."""

  height: int
  width: int
  layout: Layout
  coding: bpg_fields.Coding
  units: list[bytes]  # PPS and slices

  @property
  def coded_size(self) -> tuple[int, int]:
    """(h, w) in whole smallest blocks."""
    block = 1 << self.coding.log2_min_block
    return -(-self.height // block) * block, -(-self.width // block) * block


def write(stream: bytes, height: int, width: int, layout: Layout) -> bytes:
  """A file of one picture (h, w), of an encoder's Annex B stream at the rounded size.

  Raises CodecError for a stream with properties that the format has no place for.
  """
  units = nal.split(stream)
  [sps] = [unit for unit in units if _type(unit) == _SPS]
  coded_size, coding = hevc_sps.from_sps(sps, layout.chroma, layout.depth)
  contents = Contents(height, width, layout, coding, [unit for unit in units if _is_picture(unit)])
  if contents.coded_size != coded_size:
    raise CodecError(f"a stream of {coded_size} for a picture of {height, width}; expected {contents.coded_size}")
  fields = bpg_fields.write(coding)
  first, *others = contents.units
  data = _ue7(len(fields)) + fields + first + nal.join(others, b"\0\0\1")
  pixel_format = _CHROMA.index(layout.chroma, _MPEG2 if layout.cosited else 0)
  flags = bytes([pixel_format << 5 | (layout.depth - 8), layout.space << 4 | layout.limited << 1])
  return MAGIC + flags + _ue7(width) + _ue7(height) + _ue7(len(data)) + data


def read(blob: bytes) -> Contents:
  """The contents of a file, its size within `frames.MAX_PIXELS` and its fields consistent.

  An alpha plane is left out, as Pillow's formats leave it out here; extensions (EXIF, colour profile, XMP, thumbnail)
  are skipped.

  Raises:
    CodecError: bytes that are no BPG file, are damaged or cut short; an animation; premultiplied alpha and CMYK, whose
      colours need the fourth plane; a depth that the decoder does not take.
  """
  layout, has_alpha, has_extension = _read_flags(blob)
  width, position = _read_ue7(blob, 6)
  height, position = _read_ue7(blob, position)
  check_size("bpg", (1, height, width))
  data = _picture_data(blob, position, has_extension)
  if has_alpha:  # whose fields stand first
    _, data = _fields_and_rest(data)
  fields, rest = _fields_and_rest(data)
  try:
    coding = bpg_fields.read(fields)
    bpg_fields.check(coding, layout.depth)
    units = [unit for unit in nal.split(b"\0\0\1" + rest) if _is_picture(unit)]
  except CodecError as error:
    raise CodecError(f"bpg: {error}") from error
  n_pictures = sum(unit[2] >> 7 for unit in units if _type(unit) != _PPS)  # first_slice_segment_in_pic_flag
  if n_pictures != 1 or _type(units[0]) != _PPS:
    raise CodecError(f"bpg: {n_pictures} pictures in {len(units)} units; expected one, behind its parameters")
  return Contents(height, width, layout, coding, units)


def annex_b(contents: Contents) -> bytes:
  """The HEVC stream again, behind a VPS and an SPS of its own."""
  layout = contents.layout
  sps = hevc_sps.sps(contents.coding, contents.coded_size, layout.chroma, layout.depth)
  return nal.join([hevc_sps.vps(), sps, *contents.units])


# -------------------------------------------------------------------------------------------------- parts


def _read_flags(blob: bytes) -> tuple[Layout, bool, bool]:
  """Layout, whether there is an alpha plane, whether there are extensions."""
  if blob[:4] != MAGIC or len(blob) < 6:
    raise CodecError(f"bpg: {len(blob)} bytes are not a BPG file, which begins with {MAGIC!r}")
  bits = nal.BitReader(blob[4:6])
  pixel_format, has_alpha, depth, space = bits.u(3), bits.flag(), bits.u(4) + 8, bits.u(4)
  has_extension, fourth_plane, limited, animation = bits.flag(), bits.flag(), bits.flag(), bits.flag()
  if pixel_format >= len(_CHROMA) or space >= len(SPACES) or (pixel_format == 0 and space != 0):
    raise CodecError(f"bpg: pixel format {pixel_format} in colour space {space} does not exist; the header is damaged")
  if depth not in DEPTHS:
    raise CodecError(f"bpg: {depth} bits a sample; expected one of {', '.join(map(str, DEPTHS))}")
  if fourth_plane:
    raise CodecError("bpg: premultiplied alpha or CMYK; expected colours that three planes tell")
  if animation:
    raise CodecError("bpg: an animation; expected one picture")
  return Layout(depth, _CHROMA[pixel_format], pixel_format >= _MPEG2, space, limited), has_alpha, has_extension


def _picture_data(blob: bytes, position: int, has_extension: bool) -> bytes:
  """What stands behind header and extensions: as many bytes as declared, or for 0 all there are."""
  length, position = _read_ue7(blob, position)
  n_extension, position = _read_ue7(blob, position) if has_extension else (0, position)
  start = position + n_extension
  if start + length > len(blob):
    raise CodecError(f"bpg: {len(blob)} bytes where the header declares {start + length}; the file is cut short")
  return blob[start : start + length] if length else blob[start:]


def _fields_and_rest(data: bytes) -> tuple[bytes, bytes]:
  length, position = _read_ue7(data, 0)
  return data[position : position + length], data[position + length :]


def _type(unit: bytes) -> int:
  return unit[0] >> 1 & 63


def _is_picture(unit: bytes) -> bool:
  """PPS and slices of the colour planes. Alpha is layer 1; SEI, delimiters and the like do not change pixels."""
  is_base = len(unit) > 2 and (unit[0] & 1) << 5 | unit[1] >> 3 == 0
  return is_base and (_type(unit) < 32 or _type(unit) == _PPS)


def _ue7(value: int) -> bytes:
  """Seven bits a byte, high ones first; the eighth says that more follow."""
  groups = [value & 127]
  while value := value >> 7:
    groups.append(value & 127 | 128)
  return bytes(reversed(groups))


def _read_ue7(data: bytes, position: int) -> tuple[int, int]:
  """(value, position behind it)."""
  value, start = 0, position
  while position < len(data) and position < start + 5:
    value, position = value << 7 | data[position] & 127, position + 1
    if data[position - 1] < 128 and value <= _MAX_LENGTH and data[start] != 128:
      return value, position
    if data[position - 1] < 128:
      break
  raise CodecError(f"bpg: no length at byte {start} of {len(data)}; the file is damaged or cut short")
