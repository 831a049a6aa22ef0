"""The section of failures: pictures of which JPEG makes more than a learned codec with as many bytes.

    rows, failures/<cell key>/ ──▶ Group(model, data, learned codec) ──▶ sentence, table, figure, the worst pictures

A study without learned codecs has no such section.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robust_compress import specs
from robust_compress.report import canvas, drawing, names, page, tables
from robust_compress.report.against_jpeg import Comparison, folder_of, load_comparison
from robust_compress.report.examples import load_examples
from robust_compress.report.markup import Safe, element, join
from robust_compress.report.section import framed, plain
from robust_compress.report.tables import Table
from robust_compress.types import Point, Row, Weights

_LEAD = (
  "Each picture by a learned codec, and by JPEG at the quality whose bytes come nearest. Left out are those of which "
  "no JPEG comes within 5 % of the bytes, most often because none is as small. JPEG is Pillow's by default, without "
  "optimised Huffman tables."
)
_AHEAD = "JPEG ahead: it has the higher PSNR. Difference: the median of learned − JPEG."
_RIGHT = (
  "Both right: the model is right about the learned codec's picture and about JPEG's; or about one of them only, or "
  "about neither. McNemar's p is exact, and not corrected for there being several settings."
)
_SELF = "To be right is to say what the same model says of the original."
_SHOWN = (
  "The worst are those that the model reads right from JPEG alone, where there are any, then those where JPEG is most "
  "ahead in PSNR. Of pictures over 256 pixels a side, the part where it is most ahead; bytes and PSNR are of the whole."
)
_ENOUGH = 20  # pictures compared, from which on a share of them says something
_KINDS = (  # of marks: title, colour, marker; read right from (learned, JPEG)
  ("read right from both or neither", canvas.MUTED, "o", ((True, True), (False, False))),
  ("only from the learned codec's picture", "#0072b2", "^", ((True, False),)),
  ("only from JPEG's", "#d55e00", "v", ((False, True),)),
)


class Group(NamedTuple):
  """All settings of a learned codec that a model with its base weights was tested at, by rate."""

  model: str
  weights: Weights
  data: str
  codec: Point  # without a level
  found: list[tuple[Row, Comparison]]


def section(rows: Iterable[Row], folder: str | os.PathLike[str] | None, directory: Path) -> Safe | None:
  """Draws its figures into `directory`. None where nothing was compared."""
  found = [] if folder is None else groups(rows, folder)
  if not found:
    return None
  n_settings = sum(len(group.found) for group in found)
  parts = [_group(group, folder, directory, page.PICTURE_BUDGET // n_settings) for group in found]
  return element("section", element("h2", "Where JPEG does better at equal bytes"), element("p", _LEAD), parts)


def groups(rows: Iterable[Row], folder: str | os.PathLike[str]) -> list[Group]:
  """What was compared for these rows, under the conditions that they were measured under."""
  kept: dict[tuple[str, Weights, str, str], list[tuple[Row, Comparison]]] = {}
  for row in rows:
    one = load_comparison(folder, row.cell)
    if one is not None and all(one.fingerprint.get(name) == value for name, value in row.fingerprint.items()):
      key = row.cell.model, row.cell.weights, row.cell.data, names.codec_key(row.cell.test)
      kept.setdefault(key, []).append((row, one))
  return [
    Group(*key[:3], Point(pairs[0][0].cell.test.codec, pairs[0][0].cell.test.options), sorted(pairs, key=_rate))
    for key, pairs in kept.items()
  ]


def _rate(pair: tuple[Row, Comparison]) -> float:
  return pair[0].bpp or 0.0


def _group(group: Group, folder: str | os.PathLike[str], directory: Path, budget: int) -> Safe:
  codec = names.codec_key(group.codec)
  key = specs.key_of([specs.weights_to_json(group.weights), group.data, codec])[:6]
  name = f"{plain(f'{group.model}-{specs.parse_data(group.data).name}-{codec}')}-failures-{key}"
  title = f"{names.codec_title(group.codec)} against JPEG: {group.model} on {specs.parse_data(group.data).name}"
  caption = "A picture a mark; below the line JPEG has the higher PSNR with as many bytes."
  figure = framed(scatter(group), directory, name, "PSNR difference over bits per pixel", caption)
  shown = _pictures(group, folder, budget)
  return join(
    element("h3", title),
    element("p", summary(group)),
    page.table(table(group)),
    element("p", _note(group), class_="note"),
    figure,
    [element("p", _SHOWN, class_="note"), *shown] if shown else None,
  )


def summary(group: Group) -> str:
  """The setting at which JPEG is ahead most often, of those with enough pictures, in one sentence."""
  compared = [(one, int(one.equal.sum())) for _, one in group.found if one.equal.any()]
  if not compared:
    return "No picture could be compared: JPEG comes nowhere within 5 % of the learned codec's bytes."
  if not any(one.beaten.any() for one, _ in compared):
    return f"JPEG has the higher PSNR on none of the pictures compared, at {_settings(len(compared))}."
  enough = [pair for pair in compared if pair[1] >= _ENOUGH]
  one, n = max(enough or compared, key=lambda pair: pair[0].beaten.sum() / pair[1] if enough else pair[1])
  n_beaten, where = int(one.beaten.sum()), names.point_title(one.cell.test)
  text = f"JPEG has the higher PSNR on {n_beaten} of {n} pictures ({names.percent_text(n_beaten / n)}) at {where}"
  if len(compared) > 1:
    text += f", where {'it is ahead most often' if enough and n_beaten else 'most are compared'}"
  n_lost = int(one.answers(learned=False, jpeg=True).sum())
  return text + (f"; on {n_lost} the model is right about JPEG's picture only." if one.has_answers else ".")


def _settings(n: int) -> str:
  return "one setting" if n == 1 else f"any of {n} settings"


def _note(group: Group) -> str:
  """What the columns of the table say, and of how many pictures those compared are a sample, where they are one."""
  one = group.found[0][1]
  said = [_AHEAD] + [_RIGHT] * one.has_answers + [_SELF] * (one.has_answers and one.cell.target != "labels")
  said += [f"A sample of {len(one)} of {one.n_test} pictures."] * (len(one) < one.n_test)
  return " ".join(said)


def table(group: Group) -> Table:
  """One line a setting: counts of pictures, and the model's answers on both as a two by two table."""
  columns = [("setting", False), ("bpp", True), ("compared", True), ("left out", True), ("JPEG ahead", True)]
  columns += [("difference", True)]
  has_answers = all(one.has_answers for _, one in group.found)
  if has_answers:
    columns += [("both right", True), ("learned only", True), ("JPEG only", True), ("neither", True)]
    columns += [("McNemar p", True)]
  body = []
  for row, one in group.found:
    n, n_beaten = int(one.equal.sum()), int(one.beaten.sum())
    line = [names.setting_text(row.cell.test), names.bpp_text(row.bpp), f"{n}", f"{len(one) - n}"]
    line += [f"{n_beaten} ({names.percent_text(n_beaten / n)})", _decibels(one)] if n else ["–", "–"]
    if has_answers:
      pairs = (True, True), (True, False), (False, True), (False, False)
      line += [str(one.answers(*pair).sum()) if n else "–" for pair in pairs]
      line += [tables.p_text(one.mcnemar().p_value if n else None)]
    body.append(tuple(line))
  return Table("Learned codec and JPEG at equal bytes", tuple(columns), tuple(body))


def _decibels(one: Comparison) -> str:
  return f"{np.median(one.difference[one.equal]):+.1f} dB".replace("-", "−")


def scatter(group: Group) -> Figure | None:
  """PSNR of the learned codec less JPEG's over bpp, a mark a picture; None where none was compared."""
  if not any(one.equal.any() for _, one in group.found):
    return None
  with mpl.rc_context(canvas.STYLE):
    figure, [axis] = drawing.frames(1, 3.6)
    axis.axhline(0, color=canvas.INK, linewidth=1.1, zorder=2)
    handles = []
    for title, ink, shape, answers in _KINDS:
      style = {"linestyle": "none", "color": ink, "marker": shape, "markersize": 4.2, "markeredgewidth": 0}
      x, y = _marks(group, answers)
      if len(x):
        axis.plot(x, y, alpha=0.45 if ink == canvas.MUTED else 0.9, zorder=3 + (ink != canvas.MUTED), **style)
        handles.append(Line2D([], [], label=title, **style))
    axis.set_ylabel("PSNR, learned − JPEG (dB)")
    drawing.rate_axis(axis)
    has_answers = all(one.has_answers for _, one in group.found)
    drawing.place_legend(figure, [[(handles if has_answers else [], "left")]])
  return figure


def _marks(group: Group, answers: Sequence[tuple[bool, bool]]) -> tuple[np.ndarray, np.ndarray]:
  """(bpp, PSNR difference) of pictures with these answers, of (learned, JPEG); nobody asked counts as both alike."""
  x, y = [], []
  for _, one in group.found:
    if one.has_answers:
      chosen = np.any([one.answers(*pair) for pair in answers], axis=0)
    else:
      chosen = one.equal & (len(answers) > 1)
    chosen = chosen & np.isfinite(one.difference)
    x.append(8 * one.columns["n_bytes"][chosen] / one.columns["n_pixels"][chosen])
    y.append(one.difference[chosen])
  return np.concatenate(x), np.concatenate(y)


def _pictures(group: Group, folder: str | os.PathLike[str], budget: int) -> list[Safe]:
  """The worst of each setting, of which the one with most failures is open."""
  most = max(group.found, key=lambda pair: len(pair[1].worst(len(pair[1]))))[1]
  parts: list[Any] = []
  for row, one in group.found:
    entries = load_examples(folder_of(folder, one.cell), one.cell.data)
    if entries:
      n, title = len(one.worst(len(one))), names.placed_title(one.cell.test, row.bpp)
      head = element(
        "summary", f"{title}: the worst {len(entries)} of {n}" if len(entries) < n else f"{title}: all {n}"
      )
      parts.append(element("details", head, page.examples(entries, budget), open=one is most))
  return parts
