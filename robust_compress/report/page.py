"""The page: sections of one self-contained HTML file, from panels, figures and tables.

Every text passes through `markup`, which escapes; style and pictures are inline, so the file may be mailed.
"""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Callable, Sequence
from typing import Any

from robust_compress import specs
from robust_compress.report import names
from robust_compress.report.curves import Panel
from robust_compress.report.markup import Safe, element, join
from robust_compress.report.tables import Table
from robust_compress.types import Row

PICTURE_BUDGET = 12 * 2**20  # bytes of PNG in one section; further examples stay in their folder


def document(title: str, *body: Any) -> str:
  css = importlib.resources.files(__package__).joinpath("page.css").read_text()
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    element("title", title),
    element("style", Safe(css)),
  )
  return f"<!doctype html>\n{element('html', head, element('body', *body), lang='en')}\n"


def table(one: Table) -> Safe:
  """Numbers to the right, intervals beside their number, a heading cell a column."""
  kinds = [_kind(title, is_number) for title, is_number in one.columns]
  head = [element("th", title, class_=kind, scope="col") for (title, _), kind in zip(one.columns, kinds)]
  body = []
  for number, cells in enumerate(one.body):
    starts = number > 0 and cells[:1] != one.body[number - 1][:1]
    written = [_cell(cell, kind) for cell, kind in zip(cells, kinds, strict=True)]
    body.append(element("tr", written, class_="group" if starts else None))
  whole = element(
    "table",
    element("caption", one.caption, class_="unseen"),
    element("thead", element("tr", head)),
    element("tbody", body),
  )
  return join(element("div", whole, class_="scroll", tabindex=0), [element("p", n, class_="note") for n in one.notes])


def _kind(title: str, is_number: bool) -> str | None:
  if title == "95 %":
    return "interval"
  return "number" if is_number else "wide" if title == "place" else None


def _cell(cell: Any, kind: str | None) -> Safe:
  text, marked = cell if isinstance(cell, tuple) else (cell, None)
  return element("td", text, class_=marked or kind)


def figure(drawing: Safe, caption: Any, file: str) -> Safe:
  link = element("a", "PNG", href=file)
  return element("figure", drawing, element("figcaption", caption, " ", link))


# --------------------------------------------------------------------------------------- example pictures


def examples(entries: Sequence[dict[str, Any]], budget: int = PICTURE_BUDGET) -> list[Safe]:
  """One strip a picture, original first, at true pixels. Stops where they would be more than `budget` bytes."""
  strips, used = [], 0
  for entry in entries:
    paths = [entry["original"], *(decoded["file"] for decoded in entry["decoded"])]
    size = sum(path.stat().st_size for path in paths)
    if used + size > budget:
      strips.append(element("p", f"{len(entries) - len(strips)} more are beside the coded pictures.", class_="note"))
      break
    used += size
    strips.append(_strip(entry))
  return strips


def _strip(entry: dict[str, Any]) -> Safe:
  label = entry.get("label")
  said = [f"label: {label}" if label else "", _answer(entry)]
  first = picture(entry["original"].read_bytes(), "original", entry["id"], bytes_text(entry["n_bytes"]), *said)
  rest = []
  for decoded in entry["decoded"]:
    point = names.point_title(specs.parse_point(decoded["point"]))
    rest.append(picture(decoded["file"].read_bytes(), point, entry["id"], cost_text(decoded), _answer(decoded)))
  return element("div", first, rest, class_="example", tabindex=0)


def _answer(entry: dict[str, Any]) -> str:
  """What a model took the picture for, where it was asked."""
  return f"read as: {entry['prediction']}" if entry.get("prediction") else ""


def picture(png: bytes, title: str, id: str, *remarks: str) -> Safe:
  data = base64.b64encode(png).decode()
  image = element("img", src=f"data:image/png;base64,{data}", alt=f"picture {id}, {title}")
  return element("figure", image, element("figcaption", title, [element("small", text) for text in remarks if text]))


def bytes_text(n: int | None) -> str:
  return "size of this view unknown" if n is None else f"{n:,} bytes".replace(",", "\u202f")


def cost_text(decoded: dict[str, Any]) -> str:
  """Bytes and PSNR of what came back; equal pictures have no PSNR."""
  quality = "" if decoded.get("psnr") is None else f"{decoded['psnr']:.1f} dB"
  return ", ".join(filter(None, (bytes_text(decoded["n_bytes"]), quality)))


# -------------------------------------------------------------------------------------------- provenance


def provenance(rows: Sequence[Row], panels: Sequence[Panel], command: str | None) -> Safe:
  """What made the numbers: every distinct value once, with how many rows carry it when they differ."""
  items: list[tuple[str, Any]] = [("report made by", element("code", command))] if command else []
  for name in sorted({name for row in rows for name in row.provenance if name != "time"}):
    items.append((name, _distinct(rows, lambda row, name=name: _flat(row.provenance.get(name)))))
  times = sorted(str(row.provenance["time"]) for row in rows if row.provenance.get("time"))
  if times:
    items.append(("measured", times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"))
  prints = []
  for name in sorted({name for row in rows for name in row.fingerprint}):
    prints.append((name, _distinct(rows, lambda row, name=name: row.fingerprint.get(name))))
  skipped = sum(row.n_skipped for row in rows)
  items.append(("rows", f"{len(rows)}" + (f", {skipped} unreadable pictures skipped in all" if skipped else "")))
  return join(
    _definitions(items),
    element("p", _error_bars(panels), class_="note"),
    element("details", element("summary", "Fingerprints: what can change a number"), _definitions(prints))
    if prints
    else None,
  )


def _error_bars(panels: Sequence[Panel]) -> str:
  seeds = sorted({panel.n_seeds for panel in panels})
  if seeds == [1]:
    return "All intervals are 95 % by paired bootstrap over test pictures: test-sampling error only, one training seed."
  return (
    f"Intervals are 95 %. Finetuned weights were trained with up to {seeds[-1]} seeds: their intervals speak of test "
    "pictures and of trainings; those of base weights of test pictures only."
  )


def _distinct(rows: Sequence[Row], read: Callable[[Row], Any]) -> Safe:
  counts: dict[str, int] = {}
  for row in rows:
    value = read(row)
    if value not in (None, ""):
      counts[str(value)] = counts.get(str(value), 0) + 1
  several = len(counts) > 1 or sum(counts.values()) < len(rows)
  shown = sorted(counts.items(), key=lambda item: -item[1])
  parts = [element("div", element("code", value), f" in {n} rows" if several else None) for value, n in shown[:12]]
  return join(parts, element("div", f"and {len(shown) - 12} more", class_="quiet") if len(shown) > 12 else None)


def _flat(value: Any) -> str | None:
  """{'numpy': '2.4', 'git': {'commit': …}} on one line."""
  if isinstance(value, dict):
    return ", ".join(f"{key} {_flat(item)}" for key, item in value.items() if item not in (None, ""))
  if isinstance(value, (list, tuple)):
    return " ".join(str(item) for item in value)
  return None if value is None else str(value)


def _definitions(items: Sequence[tuple[str, Any]]) -> Safe:
  return element("dl", [join(element("dt", name), element("dd", value)) for name, value in items])
