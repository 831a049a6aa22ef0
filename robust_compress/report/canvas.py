"""Colours, type and the two written forms of a figure.

Codecs have Okabe and Ito's colours, which colour-blind readers tell apart, and a marker each besides. `svg` makes the
inline form: text stays text, neutral colours become the page's own (light or dark), marks carry tooltips.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from robust_compress.report import names
from robust_compress.report.markup import Safe
from robust_compress.types import Point

INK, MUTED, GRID, PAPER = "#1c2128", "#67707b", "#e2e5e9", "#fefefe"
_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_COLOURS = {
  "jpeg": "#0072b2",
  "webp": "#d55e00",
  "avif": "#009e73",
  "jpeg2000": "#cc79a7",
  "bpg": "#56b4e9",
  "h264": "#e69f00",
}
_SPARE_COLOURS = ("#8c6bb1", "#7f7f00", "#b2182b", "#01665e", "#54278f", "#8c510a")
# Three hues in three shades each, for models side by side: families of three read as families.
_MODEL_COLOURS = (
  *("#7fb8dd", "#0072b2", "#123f66"),
  *("#f2b134", "#d55e00", "#7a2c00"),
  *("#6cc7a5", "#009e73", "#0a4f3c"),
)
_MARKERS = "osD^vPXp"
STYLE = {
  "font.size": 10,
  "font.family": "sans-serif",
  "text.color": INK,
  "figure.facecolor": PAPER,
  "axes.facecolor": "none",
  "axes.labelcolor": INK,
  "axes.labelsize": 10,
  "axes.edgecolor": MUTED,
  "axes.linewidth": 0.8,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": GRID,
  "grid.linewidth": 0.8,
  "xtick.color": MUTED,
  "ytick.color": MUTED,
  "xtick.labelcolor": INK,
  "ytick.labelcolor": INK,
  "legend.frameon": False,
  "legend.fontsize": 9.5,
  "legend.handlelength": 2.4,
  "legend.columnspacing": 1.5,
  "legend.borderaxespad": 0,
  "legend.borderpad": 0,
  "lines.solid_capstyle": "round",
  "svg.fonttype": "none",
}


def colour(codec: Point, codecs: Sequence[Point]) -> str:
  """The same codec has the same colour in every report; options and strangers take the spare ones, in order."""
  key = names.codec_key(codec)
  strangers = [names.codec_key(c) for c in codecs if names.codec_key(c) not in _COLOURS]
  return _COLOURS.get(key) or _SPARE_COLOURS[strangers.index(key) % len(_SPARE_COLOURS)]


def marker(codec: Point, codecs: Sequence[Point]) -> str:
  return nth_marker(list(codecs).index(codec))


def nth_marker(n: int) -> str:
  return _MARKERS[n % len(_MARKERS)]


def model_colour(n: int, n_models: int) -> str:
  """Of the n-th of several models; up to three get a hue each."""
  return _MODEL_COLOURS[(1 + 3 * n if n_models <= 3 else n) % len(_MODEL_COLOURS)]


def png(figure: Figure) -> bytes:
  with mpl.rc_context(STYLE):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170, metadata={"Software": None})
  return buffer.getvalue()


def svg(figure: Figure, name: str, alt: str) -> Safe:
  """The figure as an inline element: themed, with tooltips, without ids that a second figure would repeat."""
  with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
  text = buffer.getvalue().decode()
  text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
  text = re.sub(r'<g id="tip:([^"]*)">', lambda match: f"<g><title>{match[1]}</title>", text)
  text = re.sub(r'<g id="[^"]*"', "<g", text)
  for ink, variable in _THEME.items():
    text = text.replace(ink, variable)
  width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
  label, style = html.escape(alt, quote=True), f"max-width:{float(width) * 1.36:.0f}px"
  head = f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" style="{style}">'
  return Safe(head + text[text.index(">") + 1 :])
