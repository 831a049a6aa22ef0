"""What a JPEG file says of itself before its coded pixels, and which quality its tables are.

    file ──parse──▶ frame, components, quantisation tables ──quality_of──▶ IJG quality 1-100, exact or nearest

Encoders that go back to the IJG's library scale the standard's two example tables (ITU-T T.81, annex K.1) by quality;
cameras and editors have tables of their own, for which the nearest quality is named, with how far off it is.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from robust_compress.types import CodecError

# Annex K.1, in the order of rows.
LUMINANCE = np.array([
  [16, 11, 10, 16, 24, 40, 51, 61],
  [12, 12, 14, 19, 26, 58, 60, 55],
  [14, 13, 16, 24, 40, 57, 69, 56],
  [14, 17, 22, 29, 51, 87, 80, 62],
  [18, 22, 37, 56, 68, 109, 103, 77],
  [24, 35, 55, 64, 81, 104, 113, 92],
  [49, 64, 78, 87, 103, 121, 120, 101],
  [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
CHROMINANCE = np.full((8, 8), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
ZIGZAG = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))

_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless"}
_FRAMES |= {0xC9: "arithmetic", 0xCA: "progressive, arithmetic", 0xCB: "lossless, arithmetic"}
_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a segment
_LABELS = {b"JFIF\0": "JFIF", b"Exif\0": "EXIF", b"ICC_PROFILE\0": "ICC profile", b"http://": "XMP", b"Adobe": "Adobe"}
_SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (1, 2): "4:4:0", (2, 2): "4:2:0", (4, 1): "4:1:1", (4, 2): "4:1:0"}


class Component(NamedTuple):
  """One plane: sampling factors, and the number of its quantisation table."""

  horizontal: int
  vertical: int
  table: int


class JpegHeader(NamedTuple):
  """Everything before the first scan."""

  width: int
  height: int
  depth: int  # bits a sample
  process: str  # 'baseline', 'progressive', …
  components: tuple[Component, ...]
  tables: dict[int, np.ndarray]  # int[8 8], rows are vertical frequencies
  metadata: tuple[str, ...]  # 'JFIF', 'EXIF', …

  @property
  def subsampling(self) -> str:
    """'4:2:0' and so on, 'grey', or 'CMYK'."""
    if len(self.components) != 3:
      return {1: "grey", 4: "CMYK"}.get(len(self.components), f"{len(self.components)} components")
    luma, *chroma = self.components
    ratios = {(luma.horizontal / c.horizontal, luma.vertical / c.vertical) for c in chroma}
    return _SAMPLINGS.get(ratios.pop(), "other") if len(ratios) == 1 else "other"

  def table_of(self, component: int) -> np.ndarray | None:
    """Quantisation steps of a plane, int[8 8]; None where the file does not hold them."""
    return self.tables.get(self.components[component].table)


def parse(data: bytes) -> JpegHeader:
  """Raises CodecError where no frame header stands before the pixels."""
  at, found, tables, metadata = 2, None, {}, []
  if data[:2] != b"\xff\xd8":
    raise CodecError(f"jpeg: {len(data)} bytes that do not begin with the start marker")
  while at + 4 <= len(data):
    marker = data[at + 1]
    if data[at] != 0xFF:
      raise CodecError(f"jpeg: no marker at byte {at}; the header is damaged")
    if marker == 0xFF or marker in _ALONE:  # fill bytes
      at += 1 if marker == 0xFF else 2
      continue
    segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
    if marker == 0xDB:
      tables |= _tables(segment)
    elif marker in _FRAMES and found is None:
      found = _frame(_FRAMES[marker], segment)
    elif 0xE0 <= marker <= 0xEF:
      metadata += [label for start, label in _LABELS.items() if segment.startswith(start)]
    elif marker in (0xDA, 0xD9):
      break
    at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
  if found is None:
    raise CodecError(f"jpeg: no frame in {len(data)} bytes; the file is damaged or cut short")
  return JpegHeader(*found, tables, tuple(dict.fromkeys(metadata)))


def _frame(process: str, segment: bytes) -> tuple:
  n = segment[5] if len(segment) > 5 else 0
  if n == 0 or len(segment) < 6 + 3 * n or not (any(segment[1:3]) and any(segment[3:5])):
    raise CodecError(f"jpeg: a frame header of {len(segment)} bytes; the file is damaged")
  parts = [segment[6 + 3 * i : 9 + 3 * i] for i in range(n)]
  components = tuple(Component(max(1, part[1] >> 4), max(1, part[1] & 15), part[2]) for part in parts)
  return int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3]), segment[0], process, components


def _tables(segment: bytes) -> dict[int, np.ndarray]:
  found, at = {}, 0
  while at < len(segment):
    wide, number = segment[at] >> 4, segment[at] & 15
    stored = segment[at + 1 : at + 1 + 64 * (1 + bool(wide))]
    if len(stored) != 64 * (1 + bool(wide)):
      raise CodecError(f"jpeg: quantisation table {number} is cut short; the file is damaged")
    found[number] = np.zeros((8, 8), np.int64)
    found[number][tuple(zip(*ZIGZAG))] = np.frombuffer(stored, ">u2" if wide else "u1")
    at += 1 + len(stored)
  return found


# ---------------------------------------------------------------------------------------------- quality


class Quality(NamedTuple):
  """Which of the IJG's tables a file has, or those nearest to its own."""

  level: int  # 1-100
  error: float  # mean difference of a step from that table's, in percent; 0 where it is exactly that table


@functools.cache
def ijg_tables(standard: str = "luminance") -> np.ndarray:
  """int[100 8 8]: the tables of quality 1 to 100, as libjpeg scales them for baseline files."""
  base = LUMINANCE if standard == "luminance" else CHROMINANCE
  levels = np.arange(1, 101)
  scales = np.where(levels < 50, 5000 // levels, 200 - 2 * levels)
  return np.clip((base * scales[:, None, None] + 50) // 100, 1, 255)


def quality_of(table: np.ndarray, standard: str = "luminance") -> Quality:
  """The IJG quality of a table int[8 8]; the nearest in the mean ratio of steps, where it is none of theirs."""
  ratios = np.abs(np.log(np.maximum(table, 1) / ijg_tables(standard))).mean(axis=(1, 2))
  best = len(ratios) - 1 - int(np.argmin(ratios[::-1]))  # of equals, the higher
  return Quality(best + 1, float(100 * np.expm1(ratios[best])))


def qualities(header: JpegHeader) -> list[Quality]:
  """Of luma, and of chroma where there is any and its table is known; the same number where both are of one quality."""
  luma = header.table_of(0)
  if luma is None:
    return []
  found = quality_of(luma)
  chroma = header.table_of(1) if len(header.components) == 3 else None
  if chroma is None:
    return [found]
  if np.array_equal(chroma, ijg_tables("chrominance")[found.level - 1]):  # at the ends several qualities have one table
    return [found, Quality(found.level, 0.0)]
  return [found, quality_of(chroma, "chrominance")]
