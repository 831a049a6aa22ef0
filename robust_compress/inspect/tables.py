"""Tables for the terminal and for spreadsheets."""

from __future__ import annotations

import math
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], n_left: int = 1, indent: str = "") -> str:
  """Columns of text with two spaces between them; the first `n_left` flush left, numbers flush right."""
  widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
  lines = []
  for row in rows:
    cells = [cell.ljust(w) if i < n_left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
    lines.append((indent + "  ".join(cells)).rstrip())
  return "\n".join(lines)


def number(value: float | None, digits: int, sign: bool = False) -> str:
  """A dash for what is not known or not defined; '∞' and a true minus sign."""
  if value is None or math.isnan(value):
    return "–"
  return "∞" if math.isinf(value) else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
