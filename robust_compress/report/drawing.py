"""What figures are drawn from: frames, curves, marks, gaps, axes, legends.

dashed  B, as trained     solid  C, finetuned     dash-dot  control     dotted  mixed     level line  A, originals
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from robust_compress import specs
from robust_compress.report import names
from robust_compress.report.canvas import INK, MUTED, PAPER, colour, marker
from robust_compress.report.curves import Panel, Sample
from robust_compress.report.published import PublishedPoint
from robust_compress.types import Point

_LINES = {"B": (0, (4, 2)), "C": "-", "control": (0, (6, 1.6, 1, 1.6)), "mixed": (0, (1, 1.4)), "relative": "-"}
_LINE_TITLES = {"B": "as trained (B)", "C": "finetuned (C)", "control": "control", "mixed": "finetuned on a mixture"}
_RATE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
_BAND_FROM = 12  # points of a curve from which on error bars would be a fence
_LEFT, _RIGHT = 0.075, 0.89
_BESIDE = 3  # codecs up to which the legend of marks fits beside that of codecs


def frames(n: int, height: float = 4.6) -> tuple[Figure, list[Axes]]:
  """n frames side by side, with room for the baseline's name on the right; a legend makes its own room above."""
  figure = Figure((8.8, height))
  axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
  figure.subplots_adjust(left=_LEFT, right=_RIGHT, bottom=0.52 / height, wspace=0.08)
  return figure, list(axes)


# ----------------------------------------------------------------------------------------- curves and marks


def curve(
  axis: Axes,
  points: Sequence[tuple[float, Sample]],
  role: str,
  metric: names.Metric,
  ink: str,
  shape: str,
  bars: bool = True,
) -> None:
  """(x, sample) pairs in order as a line with a mark each and error bars, or a band where marks are many."""
  if not points:
    return
  x, values = [at for at, _ in points], [sample.value(metric.name) * metric.scale for _, sample in points]
  quiet, many = role in ("control", "mixed"), len(points) >= _BAND_FROM
  axis.plot(x, values, color=ink, linestyle=_LINES[role], linewidth=1.2 if quiet else 1.9, zorder=3)
  intervals = [sample.interval(metric.name) for _, sample in points]
  if bars and not quiet and many and all(intervals):
    low, high = (np.array([bounds[side] for bounds in intervals]) * metric.scale for side in (0, 1))
    axis.fill_between(x, low, high, color=ink, alpha=0.14, linewidth=0, zorder=1)
  elif bars and not quiet:
    for at, interval in zip(x, intervals):
      bar(axis, at, interval, metric, ink)
  size = 3.6 if quiet or many else 5.6
  for at, value, (_, sample) in zip(x, values, points):
    over = 3.5 if quiet else 4
    mark(axis, at, value, tooltip(sample, metric), color=ink, marker=shape, markersize=size, zorder=over)


def bar(axis: Axes, x: float, interval: tuple[float, float] | None, metric: names.Metric, ink: str) -> None:
  if interval is not None:
    axis.plot([x, x], [bound * metric.scale for bound in interval], color=ink, linewidth=1.3, alpha=0.45, zorder=2)


def mark(axis: Axes, x: float, y: float, tip: str, **style) -> None:
  """One mark that shows `tip` under the pointer."""
  style = {"markersize": 5.6, "markeredgecolor": PAPER, "markeredgewidth": 0.7, "zorder": 4} | style
  [line] = axis.plot([x], [y], linestyle="none", **style)
  line.set_gid(f"tip:{tip}")


def tooltip(sample: Sample, metric: names.Metric) -> str:
  where, role = names.placed_title(sample.test, sample.bpp), names.ROLE_TITLES[sample.role]
  bounds = metric.interval_text(sample.interval(metric.name))
  return f"{where}, {role}: {metric.with_unit(sample.value(metric.name))} {bounds}".strip()


def stars(axis: Axes, points: Iterable[tuple[float, PublishedPoint]], codecs: Sequence[Point], metric: names.Metric):
  """Published points: filled for C, hollow for A and B, in the codec's colour where the panel has the codec."""
  keys = [codec.codec for codec in codecs]
  for x, point in points:
    ink = colour(codecs[keys.index(point.test.codec)], codecs) if point.test.codec in keys else INK
    what = f"{names.point_title(point.test)}, {names.ROLE_TITLES[point.role]}: {metric.with_unit(point.value)}"
    style = {"color": ink if point.role == "C" else PAPER, "marker": "*", "markersize": 12, "markeredgecolor": ink}
    mark(axis, x, point.value * metric.scale, f"{point.paper}, {point.place}: {what}", zorder=5, **style)


def baseline(axis: Axes, panel: Panel, label: bool = True, at_rate: bool = True) -> None:
  """Scenario A as a level line with its band, and a diamond where the rate of the source files is known."""
  sample, metric = panel.baseline, panel.metric
  if sample is None or sample.value(metric.name) is None:
    return
  value, interval = sample.value(metric.name) * metric.scale, sample.interval(metric.name)
  axis.axhline(value, color=INK, linewidth=1.1, zorder=2)
  if interval is not None:
    axis.axhspan(*(bound * metric.scale for bound in interval), color=MUTED, alpha=0.13, linewidth=0, zorder=0)
  if at_rate and sample.bpp is not None:
    mark(axis, sample.bpp, value, tooltip(sample, metric), color=INK, marker="d", markersize=8)
  if label:
    text, place = f"original (A)\n{metric.with_unit(sample.value(metric.name))}", axis.get_yaxis_transform()
    style = {"va": "center", "fontsize": 9, "linespacing": 1.35, "annotation_clip": False}
    axis.annotate(text, (1, value), (6, 0), xycoords=place, textcoords="offset points", **style)


def gaps(
  axis: Axes,
  panel: Panel,
  roles: Sequence[str],
  codecs: Sequence[Point],
  place: Callable[[Sample], float | None],
  palette: Sequence[Point],
) -> set[str]:
  """Planned cells without a row as hollow marks at the foot, rates out of reach as crosses; returns the states."""
  drawn, stacked = set(), {}
  for codec in codecs:
    for state, shape in (("missing", marker(codec, palette)), ("unreachable", "x")):
      spots: dict[float, list[str]] = {}
      for role in roles:
        for sample in panel.curve(role, codec, state):
          if place(sample) is not None:
            spots.setdefault(place(sample), []).append(names.ROLE_TITLES[role])
      style = {"markerfacecolor": PAPER, "markeredgecolor": colour(codec, palette), "markeredgewidth": 1.3}
      for x, missing in spots.items():
        tip, foot = f"{names.codec_title(codec)}, {state}: {', '.join(missing)}", axis.get_xaxis_transform()
        stacked[x] = stacked.get(x, -1) + 1
        mark(
          axis, x, 0.022 + 0.04 * stacked[x], tip, marker=shape, markersize=6.5, transform=foot, clip_on=False, **style
        )
        drawn.add(state)
  return drawn


# ----------------------------------------------------------------------------------------- axes and legend


def rate_axis(axis: Axes) -> None:
  axis.set_xscale("log")
  low, high = axis.get_xlim()
  axis.set_xlim(low * 0.96, high * 1.04)
  low, high = axis.get_xlim()
  axis.xaxis.set_major_locator(FixedLocator([tick for tick in _RATE_TICKS if low <= tick <= high]))
  axis.xaxis.set_minor_locator(NullLocator())
  axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: specs.format_number(x)))
  axis.set_xlabel("rate (bits per pixel, log)")


def level_axis(axis: Axes, codec: Point, samples: Sequence[Sample]) -> None:
  """Low rate on the left: a QP, which falls as the rate rises, runs backwards."""
  rated = [(sample.bpp, sample.test.level) for sample in samples if sample.bpp is not None]
  if len(rated) > 1 and min(rated)[1] > max(rated)[1]:
    axis.invert_xaxis()
  axis.set_xlabel(f"{names.codec_title(codec)} {names.level_name(codec)}")


def legend(
  figure: Figure, codecs: Sequence[Point], roles: Iterable[str], states: Iterable[str], palette: Sequence[Point]
) -> None:
  """Above the frames: codecs by colour, what lines mean, what marks mean."""
  hollow = {"linestyle": "none", "color": "none", "markeredgecolor": INK}
  colours = [
    Line2D([], [], color=colour(c, palette), marker=marker(c, palette), linewidth=1.9, label=names.codec_title(c))
    for c in codecs
  ]
  marks = [
    Line2D([], [], marker=shape, markersize=size, markeredgewidth=1.2, label=text, **hollow)
    for state, shape, size, text in (
      ("published", "*", 10, "published"),
      ("missing", "o", 6, "not measured yet"),
      ("unreachable", "x", 6, "rate out of reach"),
    )
    if state in states
  ]
  lines = [
    Line2D([], [], color=INK, linestyle=_LINES[role], linewidth=1.5, label=_LINE_TITLES[role])
    for role in _LINE_TITLES
    if role in roles
  ]
  beside = len(codecs) <= _BESIDE
  rows = [[(colours, "left")] + [(marks, "right")] * beside, [(lines, "left")], [(marks, "left")] * (not beside)]
  place_legend(figure, rows)


def place_legend(figure: Figure, rows: Iterable[Sequence[tuple[Sequence[Line2D], str]]]) -> None:
  """Writes rows of (handles, side) from the top down, skips empty ones, and lets the frames begin below."""
  inch, below = 1 / figure.get_figheight(), 0.08
  for row in rows:
    for handles, side in row:
      if handles:
        short = {"handlelength": 1.0} if handles[0].get_linestyle() == "None" else {}
        at = (_LEFT if side == "left" else _RIGHT, 1 - below * inch)
        figure.legend(handles=handles, loc=f"upper {side}", bbox_to_anchor=at, ncols=len(handles), **short)
    below += 0.28 * any(handles for handles, _ in row)
  figure.subplots_adjust(top=1 - (below + 0.06) * inch)
