"""Panels to figures, after Janeiro's figure 3 (over rate) and Reich's figures 5 and 6 (over quality).

Every function returns a matplotlib figure, or None where the panel has nothing to draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from robust_compress.report import drawing, names
from robust_compress.report.canvas import MUTED, STYLE, colour, marker, model_colour, nth_marker
from robust_compress.report.compare import Gain
from robust_compress.report.curves import Panel, Sample
from robust_compress.report.published import PublishedPoint
from robust_compress.types import NONE, Point

_MIN_LEVELS = 3  # of a codec, to be worth a frame over level


def rate_figure(panel: Panel, roles: Sequence[str], published: Sequence[PublishedPoint] = ()) -> Figure | None:
  """Metric over bpp, log axis."""
  metric, codecs = panel.metric, panel.codecs(roles)
  curves = {(role, codec): _over_rate(panel, role, codec) for codec in codecs for role in roles}
  if not any(curves.values()):
    return None
  with mpl.rc_context(STYLE):
    figure, [axis] = drawing.frames(1)
    for (role, codec), points in curves.items():
      drawing.curve(axis, points, role, metric, colour(codec, codecs), marker(codec, codecs))
    stars = [(p.bpp, p) for p in published if p.metric == metric.name and p.bpp is not None]
    drawing.stars(axis, stars, codecs, metric)
    if "B" in roles:
      drawing.baseline(axis, panel)
    states = drawing.gaps(axis, panel, roles, codecs, lambda sample: sample.bpp, codecs)
    drawing.rate_axis(axis)
    axis.set_ylabel(_metric_label(metric, roles))
    drawn = [role for (role, _), points in curves.items() if points]
    drawing.legend(figure, codecs, drawn, states | ({"published"} if stars else set()), codecs)
  return figure


def level_figure(panel: Panel, roles: Sequence[str], published: Sequence[PublishedPoint] = ()) -> Figure | None:
  """Metric over level, one frame a codec, for codecs of which several levels were measured."""
  metric, palette = panel.metric, panel.codecs(roles)
  curves = {codec: {role: _over_level(panel, role, codec) for role in roles} for codec in palette}
  codecs = [codec for codec in palette if max(map(len, curves[codec].values())) >= _MIN_LEVELS]
  if not codecs:
    return None
  states: set[str] = set()
  with mpl.rc_context(STYLE):
    figure, axes = drawing.frames(len(codecs))
    for axis, codec in zip(axes, codecs):
      for role, points in curves[codec].items():
        drawing.curve(axis, points, role, metric, colour(codec, palette), marker(codec, palette))
      stars = [(p.test.level, p) for p in published if _same_codec(p.test, codec) and p.metric == metric.name]
      stars = [(level, p) for level, p in stars if level is not None]
      drawing.stars(axis, stars, palette, metric)
      if "B" in roles:
        drawing.baseline(axis, panel, label=axis is axes[-1], at_rate=False)
      states |= drawing.gaps(axis, panel, roles, [codec], lambda sample: sample.test.level, palette)
      states |= {"published"} if stars else set()
      drawing.level_axis(axis, codec, [sample for _, sample in max(curves[codec].values(), key=len)])
    axes[0].set_ylabel(_metric_label(metric, roles))
    drawn = [role for codec in codecs for role, points in curves[codec].items() if points]
    drawing.legend(figure, codecs, drawn, states, palette)
  return figure


def gain_figure(panel: Panel, gains: Sequence[Gain]) -> Figure | None:
  """C − B over bpp with paired intervals: what finetuning brings."""
  metric, codecs = panel.metric, panel.codecs(("C",))
  gains = [g for g in gains if g.choice == "base" and g.difference is not None and g.bpp is not None]
  if not gains:
    return None
  with mpl.rc_context(STYLE):
    figure, [axis] = drawing.frames(1, height=3.4)
    axis.axhline(0, color=MUTED, linewidth=1)
    for codec in codecs:
      mine = sorted((g for g in gains if _same_codec(g.test, codec)), key=lambda g: g.bpp)
      ink, values = colour(codec, codecs), [g.difference.value * metric.scale for g in mine]
      axis.plot([g.bpp for g in mine], values, color=ink, linewidth=1.9)
      for gain, value in zip(mine, values):
        drawing.bar(axis, gain.bpp, gain.difference.interval, metric, ink)
        tip = f"{names.point_title(gain.test)}: {metric.text(gain.difference.value, True)} {metric.step}"
        drawing.mark(axis, gain.bpp, value, tip, color=ink, marker=marker(codec, codecs))
    drawing.rate_axis(axis)
    axis.set_ylabel(f"gain ({metric.step})")
    drawing.legend(figure, codecs, (), (), codecs)
  return figure


def models_figure(panels: Sequence[Panel], role: str) -> Figure | None:
  """Several models on the same data: metric over level where levels were swept, one frame a codec, else over rate."""
  metric, codecs = panels[0].metric, panels[0].codecs((role,))
  by_level = all(codec_levels(panels, role, codec) >= _MIN_LEVELS for codec in codecs)
  read = _over_level if by_level else _over_rate
  lines = [[read(panel, role, codec) for codec in codecs] for panel in panels]
  if not codecs or not any(any(line) for line in lines):
    return None
  inks = [model_colour(n, len(panels)) for n in range(len(panels))]
  with mpl.rc_context(STYLE):
    figure, axes = drawing.frames(len(codecs), height=4.2 + 0.28 * (len(panels) // 4))
    for n, (ink, line) in enumerate(zip(inks, lines)):
      for axis, points in zip(axes, line):
        drawing.curve(axis, points, "relative", metric, ink, nth_marker(n), bars=len(panels) < 4)
    for axis, codec in zip(axes, codecs):
      if by_level:
        drawing.level_axis(axis, codec, panels[0].curve(role, codec))
      else:
        drawing.rate_axis(axis)
        axis.set_title(names.codec_title(codec), fontsize=10, loc="left")
    axes[0].set_ylabel(_metric_label(metric, (role,)))
    keys = [Line2D([], [], color=c, marker=nth_marker(n), label=p.model) for n, (p, c) in enumerate(zip(panels, inks))]
    drawing.place_legend(figure, [[(keys[start : start + 4], "left")] for start in range(0, len(keys), 4)])
  return figure


def codec_levels(panels: Sequence[Panel], role: str, codec: Point) -> int:
  return max(len(_over_level(panel, role, codec)) for panel in panels)


def _over_rate(panel: Panel, role: str, codec: Point) -> list[tuple[float, Sample]]:
  samples = panel.curve(role, codec)
  return [(s.bpp, s) for s in samples if s.bpp is not None and s.value(panel.metric.name) is not None]


def _over_level(panel: Panel, role: str, codec: Point) -> list[tuple[float, Sample]]:
  samples = [s for s in panel.curve(role, codec) if s.test.level is not None]
  return sorted(((s.test.level, s) for s in samples if s.value(panel.metric.name) is not None), key=lambda p: p[0])


def _same_codec(a: Point, b: Point) -> bool:
  return names.codec_key(a) == names.codec_key(b)


def _metric_label(metric: names.Metric, roles: Sequence[str]) -> str:
  relative = "relative " if "relative" in roles else ""
  return f"{relative}{metric.title}{metric.unit and f' ({metric.unit})'}"


# ----------------------------------------------------------------------------------------------- matrix


def matrix_figure(panel: Panel) -> Figure | None:
  """Train level × test level as a heat map; a cell that was not measured is hatched."""
  trained, tests = panel.matrix()
  if not trained:
    return None
  metric = panel.metric
  table = np.full((len(trained), len(tests)), np.nan)
  for i, points in enumerate(trained):
    for j, test in enumerate(tests):
      sample = panel.trained_on(points, test)
      if sample is not None and (value := sample.value(metric.name)) is not None:
        table[i, j] = value
  with mpl.rc_context(STYLE | {"axes.grid": False}):
    figure = Figure((min(12, 2.7 + 0.78 * len(tests)), 1.7 + 0.42 * len(trained)), layout="constrained")
    axis = figure.add_subplot()
    _heat(axis, table, metric)
    titles = [_short(point) for point in tests]
    axis.set_xticks(np.arange(len(tests)) + 0.5, titles, rotation=40, ha="left", rotation_mode="anchor")
    axis.set_yticks(np.arange(len(trained)) + 0.5, [_trained_title(points) for points in trained])
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel(f"tested on ({metric.title}{metric.unit and ', ' + metric.unit})", labelpad=8)
    axis.set_ylabel("trained on", labelpad=8)
  return figure


def _heat(axis: Axes, table: np.ndarray, metric: names.Metric) -> None:
  """Cells as rectangles with their number; light is worse, in one hue so that it prints."""
  hue, better = mpl.colormaps["Blues"], np.vectorize(metric.better)(table)
  low, high = np.nanmin(better), np.nanmax(better)
  for (i, j), value in np.ndenumerate(table):
    box = {"xy": (j + 0.02, i + 0.03), "width": 0.96, "height": 0.94}
    if np.isnan(value):
      axis.add_patch(Rectangle(**box, facecolor="none", edgecolor=MUTED, linewidth=0.6, hatch="////"))
      continue
    shade = 0.08 + 0.72 * ((better[i, j] - low) / (high - low) if high > low else 0.5)
    axis.add_patch(Rectangle(**box, facecolor=hue(shade), linewidth=0))
    ink = "#ffffff" if shade > 0.5 else "#10202f"
    axis.text(j + 0.5, i + 0.5, metric.text(value), ha="center", va="center", color=ink, fontsize=9.5)
  axis.set_xlim(0, table.shape[1])
  axis.set_ylim(table.shape[0], 0)


def _short(point: Point) -> str:
  return names.point_title(point).replace(", quality", "").replace(", QP", "")


def _trained_title(points: tuple[Point, ...]) -> str:
  if not points:
    return "base, not finetuned"
  return "originals (control)" if points == (NONE,) else ", ".join(_short(point) for point in points)
