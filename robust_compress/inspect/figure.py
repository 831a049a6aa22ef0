"""The figure of `rd`: PSNR and MS-SSIM over bpp, measured curves with marks, published ones as thin broken lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robust_compress import specs
from robust_compress.inspect.compare import Line
from robust_compress.report import drawing
from robust_compress.report.canvas import MUTED, STYLE, colour, nth_marker
from robust_compress.types import Point

_DASHES = ((0, (4, 2)), (0, (1, 1.4)), (0, (6, 1.6, 1, 1.6)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)))
_A_ROW = 5  # entries of the legend


def rd_figure(drawn: Sequence[Line], title: str, foot: str = "") -> Figure:
  """Two frames side by side over one logarithmic axis of rate each; without MS-SSIM, one."""
  measured = [line for line in drawn if line.measured]
  metrics = [("PSNR (dB)", "psnr"), ("MS-SSIM (dB)", "ms_ssim_db")]
  metrics = [metric for metric in metrics if any(map(math.isfinite, _values(measured, metric[1])))]
  with mpl.rc_context(STYLE):
    figure = Figure((4.9 * len(metrics) + 0.4, 4.8))
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    handles = _handles(drawn)
    for axis, (label, column) in zip(axes, metrics):
      for line, handle in zip(drawn, handles):
        _draw(axis, line, getattr(line, column), handle)
      axis.set_ylabel(label)
      drawing.rate_axis(axis)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.16, wspace=0.2)
    rows = [handles[start : start + _A_ROW] for start in range(0, len(handles), _A_ROW)]
    heading = Line2D([], [], linestyle="none", label=title)
    drawing.place_legend(figure, [[([heading], "left")], *([(row, "left")] for row in rows)])
    figure.text(0.08, 0.015, foot, color=MUTED, fontsize=8)
  return figure


def _handles(drawn: Sequence[Line]) -> list[Line2D]:
  """What each curve looks like. A published one has the colour of its format where that was measured, else grey."""
  measured = [line for line in drawn if line.measured]
  points = [Point(*specs.parse_call(line.key)) for line in measured]
  inks = [colour(point, points) for point in points]
  handles = [
    Line2D([], [], color=ink, marker=nth_marker(n), markersize=4.5, linewidth=1.9, label=line.title)
    for n, (line, ink) in enumerate(zip(measured, inks))
  ]
  by_codec = {line.codec: ink for line, ink in zip(reversed(measured), reversed(inks))}
  for n, line in enumerate(line for line in drawn if not line.measured):
    style = {"linestyle": _DASHES[n % len(_DASHES)], "linewidth": 1.2}
    handles.append(Line2D([], [], color=by_codec.get(line.codec, MUTED), label=f"{line.title}, published", **style))
  return handles


def _draw(axis: Axes, line: Line, values: Sequence[float], handle: Line2D) -> None:
  pairs = sorted((x, y) for x, y in zip(line.bpp, values) if math.isfinite(y))
  if pairs:
    style = {name: getattr(handle, f"get_{name}")() for name in ("color", "linestyle", "linewidth", "marker")}
    axis.plot(*zip(*pairs), markersize=handle.get_markersize(), zorder=3 if line.measured else 2, **style)


def _values(drawn: Sequence[Line], column: str) -> list[float]:
  return [value for line in drawn for value in getattr(line, column)]
