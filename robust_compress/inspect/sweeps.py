"""The written form of what is swept: codecs, each with the levels to measure it at.

    'jpeg, webp(method=6)@[10..90:20], bpg(chroma=444)@[22..47]'  ──parse_sweeps──▶  one Sweep a codec

Levels are a number, or numbers and ranges in brackets, both ends included: @50, @[10,30,75], @[47..22], @[10..90:20].
A codec without any is measured at those of `--levels`, or else along its usual ladder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_compress import codecs, specs
from robust_compress.types import NONE, LevelError, Point, SpecError

MAX_LEVELS = 1000  # of a range; more is a slip of the pen
_RANGE = re.compile(r"\s*(?P<first>[^.\s]+(?:\.\d+)?)\s*\.\.\s*(?P<last>[^:\s]+)\s*(?::\s*(?P<step>\S+)\s*)?")


@dataclass(frozen=True)
class Sweep:
  """One codec, and the levels at which it is measured, in the order of its ladder: low rate to high."""

  codec: Point  # without a level
  levels: tuple[float, ...]

  def __str__(self) -> str:
    return specs.format_call(self.codec.codec, self.codec.options)


def parse_sweeps(text: str, levels: str = "") -> list[Sweep]:
  """Sweeps of different codecs. Raises SpecError or LevelError for what does not parse, exist, or fit the codec."""
  sweeps = [_parse_one(part, levels) for part in split_outside(text, ",")]
  seen: set[str] = set()
  for name in map(str, sweeps):
    if name in seen:
      raise SpecError(f"{name} is asked for twice; name all its levels at once, as in {name}@[10,30,75]")
    seen.add(name)
  return sweeps


def parse_levels(text: str) -> list[float]:
  """'50' or '10,30..90:20' to numbers, as written."""
  return [level for part in text.split(",") for level in _range(part.strip())]


def split_outside(text: str, separator: str) -> list[str]:
  """The parts of `text` between separators that stand in no brackets and no quotation."""
  parts, depth, quoted = [""], 0, False
  for character in text:
    quoted ^= character == '"'
    depth += 0 if quoted else (character in "([") - (character in ")]")
    if character == separator and depth == 0 and not quoted:
      parts.append("")
    else:
      parts[-1] += character
  return [part.strip() for part in parts]


def _parse_one(text: str, levels: str) -> Sweep:
  call, *rest = split_outside(text, "@")
  if not call or len(rest) > 1:
    raise SpecError(f"{text!r} is no codec; expected codec, codec(option=value)@level or codec@[10,30..90:20]")
  name, options = specs.parse_call(call)
  if name == NONE.codec:
    raise SpecError("'none' is no codec: its pictures are their own originals")
  written = rest[0] if rest else levels
  if written.endswith("bpp"):
    raise LevelError(f"{text!r}: a curve is measured over levels, not at a target rate; name levels, or none")
  ladder = codecs.load_codec(Point(name, options)).levels
  numbers = parse_levels(written.removeprefix("[").removesuffix("]")) if written else ladder
  points = [codecs.canonical_point(Point(name, options, level)) for level in dict.fromkeys(map(float, numbers))]
  rising = ladder[0] <= ladder[-1]
  ordered = sorted((point.level for point in points), reverse=not rising)
  return Sweep(Point(name, points[0].options), tuple(ordered))


def _range(text: str) -> list[float]:
  match = _RANGE.fullmatch(text)
  if not match:
    return [_number(text)]
  first, last = _number(match["first"]), _number(match["last"])
  step = abs(_number(match["step"])) if match["step"] else 1.0
  n = int(abs(last - first) / step + 1e-9) + 1 if step else MAX_LEVELS + 1
  if n > MAX_LEVELS:
    raise LevelError(f"{text!r} has no end or more than {MAX_LEVELS} levels; expected first..last or first..last:step")
  return [round(first + index * (step if last >= first else -step), 9) for index in range(n)]


def _number(text: str) -> float:
  try:
    value = specs.parse_value(text)
  except SpecError:
    value = None
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise LevelError(f"{text!r} is no level; expected a number, or a range such as 22..47 or 10..90:20")
  return float(value)
