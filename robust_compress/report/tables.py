"""Panels to tables, their cells as text that a reader sees. `page.table` writes them; `csv_files` has full numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from robust_compress import specs
from robust_compress.report import compare, names
from robust_compress.report.compare import Bjontegaard, Cheapest, Gain
from robust_compress.report.curves import Panel, Sample
from robust_compress.report.paired import Estimate
from robust_compress.report.published import PublishedPoint
from robust_compress.types import NONE, Point


@dataclass(frozen=True)
class Table:
  """Columns are (title, is it a number); a body cell is text, or (text, class) to mark it."""

  caption: str
  columns: tuple[tuple[str, bool], ...]
  body: tuple[tuple[Any, ...], ...]
  notes: tuple[str, ...] = ()


def estimate_cells(estimate: Estimate | None, metric: names.Metric, signed: bool = True) -> tuple[str, str]:
  """(value, interval) as two cells, so that both columns align."""
  if estimate is None:
    return "–", ""
  return metric.text(estimate.value, signed), metric.interval_text(estimate.interval, signed)


def _share(estimate: Estimate | None, signed: bool = False) -> tuple[str, str]:
  if estimate is None:
    return "–", ""
  bounds = [names.percent_text(x, signed).removesuffix(" %") for x in estimate.interval or ()]
  return names.percent_text(estimate.value, signed), f"[{', '.join(bounds)}]" if bounds else ""


def p_text(p: float | None) -> str:
  return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


# ------------------------------------------------------------------------------------------- in the page


def gain_table(gains: Sequence[Gain], panel: Panel) -> Table:
  """C − B, recovered share and, of metrics that are right or wrong on a picture, McNemar; twice where control weights
  are a better base. Other pictures are said so."""
  metric, both = panel.metric, any(gain.choice == "control" for gain in gains)
  tested = compare.any_tested(gains)
  columns = [("codec", False), ("setting", False), ("bpp", True), ("A", True), ("B", True), ("C", True)]
  columns += [
    (f"C − B ({metric.step})", True),
    ("95 %", True),
    ("recovered", True),
    ("95 %", True),
  ]
  columns += [("McNemar p", True)] * tested
  body = []
  for g in compare.by_rate(list(gains)):
    a, b, c = (metric.text(sample.value(metric.name)) if sample else "–" for sample in (g.a, g.b, g.c))
    row = (names.codec_title(g.test), names.setting_text(g.test), names.bpp_text(g.bpp), a, b, c)
    difference = (("other pictures", "missing"), "") if g.difference is None else estimate_cells(g.difference, metric)
    row += (*difference, *_share(g.recovered)) + (p_text(g.p_value),) * tested
    body.append(((f"A and B from {g.choice} weights",) if both else ()) + row)
  columns = [("base", False)] * both + columns
  apart = "Other pictures: B and C were measured over different ones (some were skipped), and are not compared."
  notes = (apart,) if any(g.difference is None for g in gains) else ()
  return Table(f"What finetuning brings back, {metric.title}", tuple(columns), tuple(body), notes)


def bjontegaard_table(results: Sequence[Bjontegaard], panel: Panel) -> Table:
  metric = panel.metric
  columns = (("curve", False), ("against", False), ("BD-rate", True), ("95 %", True))
  columns += ((f"BD-accuracy ({metric.step})", True), ("95 %", True))

  def named(role: str, codec: Point) -> str:
    return f"{names.codec_title(codec)}, {names.ROLE_TITLES[role]}"

  body = [
    (
      named(r.role, r.codec),
      named(r.against_role, r.against_codec),
      *_share(r.rate, True),
      *estimate_cells(r.accuracy, metric),
    )
    for r in results
  ]
  return Table("BD-rate and BD-accuracy", columns, tuple(body))


def cheapest_table(results: Sequence[Cheapest], panel: Panel) -> Table:
  metric = panel.metric
  columns = (("codec", False), ("weights", False), ("cheapest setting", False), ("bpp", True), ("interpolated", True))
  columns += ((f"loss ({metric.step})", True), ("95 %", True), ("interval too", False))
  body = []
  for r in results:
    head = (names.codec_title(r.codec), names.ROLE_TITLES[r.role])
    sure = (
      "no setting"
      if r.certain is None
      else f"from {names.setting_text(r.certain.test)}, {names.bpp_text(r.certain.bpp)} bpp"
    )
    if r.sample is None:
      body.append((*head, ("none measured", "quiet"), "–", "–", *estimate_cells(r.loss, metric, False), sure))
      continue
    edge = r.sample is r.lowest
    crossing = "–" if edge else names.bpp_text(r.bpp_interpolated)
    setting = names.setting_text(r.sample.test) + (" (the lowest measured)" if edge else "")
    body.append((*head, setting, names.bpp_text(r.sample.bpp), crossing, *estimate_cells(r.loss, metric, False), sure))
  allowed = "1 point" if metric.is_fraction else "1 % of the error"
  return Table(f"Cheapest setting within a loss of {allowed}", columns, tuple(body))


def cell_table(panel: Panel) -> Table:
  """Every cell of a panel, measured or not."""
  columns = [
    ("scenario", False),
    ("trained on", False),
    ("tested on", False),
    ("bpp", True),
    ("mean bpp", True),
    ("n", True),
  ]
  for metric in panel.metrics:
    columns += [(f"{metric.name}{metric.unit and ' ' + metric.unit}", True), ("95 %", True)]
  extra = [column for column in _EXTRA if any(map(column.matters, panel.samples))]
  columns += [(column.title, True) for column in extra]
  body = [_cell(sample, panel, extra) for sample in sorted(panel.samples, key=_cell_order)]
  notes = [_MISSED] if any(sample.misses_rate for sample in panel.samples) else []
  notes += [_PICTURES_OFF] if any(map(_of_own_levels, panel.samples)) else []
  notes += dict.fromkeys(f"{sample.reason}." for sample in panel.samples if sample.reason)
  return Table("All cells", tuple(columns), tuple(body), tuple(notes))


class _Column(NamedTuple):
  """A column that is there only where it matters for a sample."""

  title: str
  matters: Callable[[Sample], bool]
  text: Callable[[Sample], str]


def _of_own_levels(sample: Sample) -> bool:
  return sample.test.per_image and "share_off" in sample.target_rate


def _asked(sample: Sample) -> str:
  return "" if sample.test.bpp is None else specs.format_number(sample.test.bpp)


def _levels(sample: Sample) -> str:
  return "–".join(dict.fromkeys(specs.format_number(round(x, 2)) for x in sample.target_rate.get("levels", ())))


def _pictures_off(sample: Sample) -> str:
  return names.percent_text(sample.target_rate["share_off"]) if _of_own_levels(sample) else ""


def _n_skipped(sample: Sample) -> int:
  return max((row.n_skipped for row in sample.rows), default=0)


_EXTRA = (
  _Column("bpp asked", lambda sample: sample.test.bpp is not None, _asked),
  _Column("level", lambda sample: "levels" in sample.target_rate, _levels),
  _Column("pictures off", _of_own_levels, _pictures_off),
  _Column("seeds", lambda sample: len(sample.rows) > 1, lambda sample: str(len(sample.rows) or "")),
  _Column("skipped", lambda sample: _n_skipped(sample) > 0, lambda sample: str(_n_skipped(sample)) * bool(sample.rows)),
)
_MISSED = "† the rate asked was missed by more than 5 %; the rate shown is what was measured."
_PICTURES_OFF = (
  "Where every picture has a level of its own: the lowest, the median and the highest; and the share of pictures whose "
  "own rate is more than 5 % off the one asked."
)


_ORDER = ("A", "B", "C", "control", "mixed", "matrix", "relative")


def _cell_order(sample: Sample) -> tuple:
  trained = " ".join(map(str, sample.trained)) if sample.role == "matrix" else ""
  return _ORDER.index(sample.role), trained, names.codec_key(sample.test), sample.bpp or 0, sample.test.level or 0


def _cell(sample: Sample, panel: Panel, extra: Sequence[_Column]) -> tuple[Any, ...]:
  scenario = (
    f"{sample.role}, {names.ROLE_TITLES[sample.role]}" if sample.role in "ABC" else names.ROLE_TITLES[sample.role]
  )
  trained = [("originals" if point == NONE else names.point_title(point)) for point in sample.trained] or ["base"]
  trained = trained[0] if len(trained) == 1 else f"mixture of {len(trained)}"
  head = (scenario, trained, names.point_title(sample.test))
  said = [column.text(sample) for column in extra]
  if not sample.rows:
    return (*head, names.bpp_text(sample.bpp), "–", (sample.state, "missing"), *[""] * (2 * len(panel.metrics)), *said)
  means = [row.bpp_mean for row in sample.rows if row.bpp_mean is not None]
  dagger = "†" if sample.misses_rate else ""
  counts = sorted({row.n for row in sample.rows})
  numbers = [
    names.bpp_text(sample.bpp) + dagger,
    names.bpp_text(means[0] if means else None),
    "–".join(map(str, counts)),
  ]
  for metric in panel.metrics:
    numbers += [metric.text(sample.value(metric.name)), metric.interval_text(sample.interval(metric.name))]
  return (*head, *numbers, *said)


def published_table(points: Sequence[PublishedPoint], panel: Panel) -> Table:
  columns = (("study", False), ("place", False), ("scenario", False), ("setting", False), ("bpp", True))
  columns += (("metric", False), ("printed", True), ("measured here", True))
  body = []
  for p in points:
    metric, sample = names.known_metric(p.metric), panel.find(p.role, p.test)
    ours = metric.text(sample.value(p.metric)) if sample else "–"
    setting = (names.ROLE_TITLES[p.role], names.point_title(p.test), names.bpp_text(p.bpp), metric.title)
    body.append((p.paper, p.place, *setting, metric.text(p.value), ours))
  notes = dict.fromkeys(f"{p.paper}: {p.note}." for p in points if p.note)
  return Table("Published points", columns, tuple(body), tuple(notes))
