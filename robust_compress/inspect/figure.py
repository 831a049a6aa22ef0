"""The figure of `rd`: PSNR and MS-SSIM over bpp, measured curves with marks, published ones as thin broken lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robust_compress import specs
from robust_compress.inspect.compare import Line
from robust_compress.report import drawing
from robust_compress.report.canvas import MUTED, STYLE, colour, nth_marker
from robust_compress.types import Point

_DASHES = ((0, (4, 2)), (0, (1, 1.4)), (0, (6, 1.6, 1, 1.6)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
_METRICS = {"psnr": "PSNR (dB)", "ms_ssim_db": "MS-SSIM (dB)"}
_A_ROW = 5  # entries of the legend at most
_MARGIN = 0.8  # inches left of the frames
_ENTRY, _LETTER = 0.65, 0.072  # inches that an entry of the legend takes, and every letter of its label
Style = dict[str, Any]  # keywords of a matplotlib line


def rd_figure(drawn: Sequence[Line], title: str, foot: str = "") -> Figure:
  """A frame for each metric that the measured curves have, side by side, each over a logarithmic axis of rate."""
  measured = [line for line in drawn if line.measured]
  metrics = [name for name in _METRICS if any(map(math.isfinite, sum((getattr(m, name) for m in measured), ())))]
  styles = _styles(drawn)
  with mpl.rc_context(STYLE):
    width = 4.9 * max(len(metrics), 1) + 0.4
    legend = _legend([Line2D([], [], label=_label(line), **style) for line, style in zip(drawn, styles)], 0.9 * width)
    figure = Figure((width, max(4.8, 3.96 + 0.28 * len(legend))))
    axes = figure.subplots(1, max(len(metrics), 1), squeeze=False)[0]
    for axis, name in zip(axes, metrics):
      for line, style in zip(drawn, styles):
        _draw(axis, line, getattr(line, name), style)
      axis.set_ylabel(_METRICS[name])
      drawing.rate_axis(axis)
    figure.subplots_adjust(left=_MARGIN / width, right=0.98, bottom=0.16, wspace=0.2)
    drawing.place_legend(figure, [[(row, "left")] for row in legend])
    figure.text(0.08, 0.015, " · ".join(filter(None, (title, foot))), color=MUTED, fontsize=8)
  return figure


def _legend(handles: Sequence[Line2D], width: float) -> list[list[Line2D]]:
  """Rows of the legend, of as many entries as fit into `width` inches."""
  rows, free = [], 0.0
  for handle in handles:
    needed = _ENTRY + _LETTER * len(handle.get_label())
    if needed > free or len(rows[-1]) == _A_ROW:
      rows.append([])
      free = width
    rows[-1].append(handle)
    free -= needed
  return rows


def _label(line: Line) -> str:
  return line.title if line.measured else f"{line.title}, published"


def _styles(drawn: Sequence[Line]) -> list[Style]:
  """A codec has its colour of every report, a published curve that of its format where it was measured, else grey."""
  measured = [line for line in drawn if line.measured]
  names = [line.codec for line in measured]
  points = [Point(*specs.parse_call(line.key if names.count(line.codec) > 1 else line.codec)) for line in measured]
  inks = [colour(point, points) for point in points]
  styles: list[Style] = [
    {"color": ink, "marker": nth_marker(n), "markersize": 4.5, "linewidth": 1.9, "zorder": 3}
    for n, ink in enumerate(inks)
  ]
  by_codec = dict(zip(reversed(names), reversed(inks)))
  for n, line in enumerate(line for line in drawn if not line.measured):
    ink = by_codec.get(line.codec, MUTED)
    styles.append({"color": ink, "linestyle": _DASHES[n % len(_DASHES)], "linewidth": 1.2, "zorder": 2})
  return styles


def _draw(axis: Axes, line: Line, values: Sequence[float], style: Style) -> None:
  pairs = sorted((x, y) for x, y in zip(line.bpp, values) if math.isfinite(y))
  if pairs:
    axis.plot(*zip(*pairs), **style)
