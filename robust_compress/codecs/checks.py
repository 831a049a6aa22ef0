"""What codecs of different families check alike: levels and choices, with one wording of the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_compress.specs import format_number
from robust_compress.types import LevelError, SpecError


def level(codec: str, value: float, ends: tuple[float, float], unit: str, is_whole: bool) -> None:
  """Raises LevelError, naming the unit and both ends, for a level that is not between them or not whole."""
  inside = min(ends) <= value <= max(ends)
  if inside and not (is_whole and value != int(value)):
    return
  first, last = map(format_number, ends)
  whole = "in whole numbers " if inside else ""
  raise LevelError(f"{codec}@{format_number(value)}: {unit} runs {whole}from {first} to {last}")


def choice(codec: str, option: str, value: Any, allowed: Sequence[Any]) -> None:
  """Raises SpecError, naming the choices, for a value that is none of them."""
  if isinstance(value, bool) or value not in allowed:
    raise SpecError(f"{codec}({option}={value}): expected one of {', '.join(map(str, allowed))}")
