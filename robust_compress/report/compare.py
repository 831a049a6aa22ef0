"""Comparisons between cells on the same pictures: gain, recovered share, BD-rate, the cheapest setting.

    Panel, Paired ──gains──▶ C − B, (C − B)/(A − B)     ──bjontegaard──▶ curve against curve     ──cheapest──▶ a setting

Intervals are paired (`paired.py`); rates are held fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robust_compress import rate, specs
from robust_compress.report import names
from robust_compress.report.curves import Panel, Sample
from robust_compress.report.paired import Estimate, Paired
from robust_compress.types import NONE, Point

LOSS = 0.01  # the loss of 'cheapest setting': a point of a fraction, a hundredth of an error metric
_BD_REPLICATES = 300  # of those kept: each refits four curves, and a percentile interval is steady by then


# ------------------------------------------------------------------------------------- what comes back


class Gain(NamedTuple):
  """What finetuning brings at one point, from one choice of base."""

  test: Point
  bpp: float | None
  choice: str  # 'base' | 'control': whose weights give A and B
  a: Sample | None
  b: Sample
  c: Sample
  difference: Estimate | None  # C − B, turned so that more is better; None where they are of different pictures
  recovered: Estimate | None  # (C − B) / (A − B); None where A − B is not clearly a loss
  p_value: float | None  # McNemar, C against B


def gains(panel: Panel, paired: Paired) -> list[Gain]:
  """C against B at every point with both; once more from the control weights where those beat the base on originals."""
  result = []
  for choice in ("base", "control") if control_beats_base(panel) else ("base",):
    for codec in panel.codecs(("C",)):
      for c in panel.curve("C", codec):
        a, b = _references(panel, choice, c.test)
        if b is not None and c.value(panel.metric.name) is not None:
          result.append(_gain(panel, paired, choice, a, b, c))
  return result


def _references(panel: Panel, choice: str, test: Point) -> tuple[Sample | None, Sample | None]:
  if choice == "control":
    return panel.find("control", NONE), panel.find("control", test)
  return panel.baseline, panel.find("B", test)


def _gain(panel: Panel, paired: Paired, choice: str, a: Sample | None, b: Sample, c: Sample) -> Gain:
  metric, better = panel.metric.name, panel.metric.better
  difference = paired.estimate(lambda b, c: better(c - b), metric, b, c)
  recovered = None
  if a is not None:
    recovered = paired.estimate(lambda *abc: rate.recovered(*map(better, abc)).item(), metric, a, b, c)
    loss = paired.estimate(lambda a, b: better(a - b), metric, a, b)
    if recovered is not None and loss and loss.interval is not None and recovered.interval is None:
      recovered = None  # too many resamples show no loss: a share of nothing
  return Gain(c.test, c.bpp, choice, a, b, c, difference, recovered, paired.mcnemar(b, c, metric))


def any_tested(found: Sequence[Gain]) -> bool:
  """Whether McNemar's test says something of any: not of metrics that no single picture is right or wrong by."""
  return any(gain.p_value is not None for gain in found)


def control_beats_base(panel: Panel) -> bool:
  """Whether more training on originals alone scores higher on originals: then A and B have two honest choices."""
  metric, control = panel.metric, panel.find("control", NONE)
  values = [sample.value(metric.name) if sample else None for sample in (panel.baseline, control)]
  return None not in values and metric.better(values[1]) > metric.better(values[0])


def selected_on(panel: Panel, everything: Sequence[Panel]) -> tuple[str, str]:
  """('control' or 'base', where that was decided): a held-out part of the training data, or '' for the test data."""
  for other in everything:
    same = (other.task, other.model, other.base, other.training) == (
      panel.task,
      panel.model,
      panel.base,
      panel.training,
    )
    scored = other.baseline is not None and other.find("control", NONE) is not None
    if same and scored and panel.training and _is_held_out(other.data, panel.training[0]):
      return ("control" if control_beats_base(other) else "base"), other.data
  return ("control" if control_beats_base(panel) else "base"), ""


def _is_held_out(data: str, training: str) -> bool:
  """Another range of the training split."""
  one, two = specs.parse_data(data), specs.parse_data(training)
  if (one.name, one.options, one.split) != (two.name, two.options, two.split):
    return False
  return (two.stop is not None and (one.start or 0) >= two.stop) or (
    one.stop is not None and one.stop <= (two.start or 0)
  )


# ------------------------------------------------------------------------------------ one curve by another


@dataclass(frozen=True)
class Bjontegaard:
  """One curve against another over the range both cover."""

  role: str
  codec: Point
  against_role: str
  against_codec: Point
  rate: Estimate | None  # extra bits at equal metric: −0.2 is a fifth fewer
  accuracy: Estimate | None  # mean gain in the metric at equal rate, turned so that more is better


def bjontegaard(panel: Panel, paired: Paired) -> list[Bjontegaard]:
  """Every codec against JPEG within B and within C, then C against B within every codec."""
  reference = next((c for c in panel.codecs() if names.codec_key(c) == "jpeg"), None)
  reference = reference or next((c for c in panel.codecs() if c.codec == "jpeg"), None)
  pairs = [
    (role, codec, role, reference)
    for role in ("B", "C", "relative")
    for codec in panel.codecs((role,))
    if reference is not None and codec != reference and panel.curve(role, reference)
  ]
  pairs += [("C", codec, "B", codec) for codec in panel.codecs(("C",))]
  return [one for pair in pairs if (one := _bjontegaard(panel, paired, *pair)) is not None]


def _bjontegaard(
  panel: Panel, paired: Paired, role: str, codec: Point, role0: str, codec0: Point
) -> Bjontegaard | None:
  metric = panel.metric
  ours, theirs = (_rated(panel.curve(*key), metric.name) for key in ((role, codec), (role0, codec0)))
  if len(ours) < 2 or len(theirs) < 2:
    return None
  bpp, bpp0 = ([sample.bpp for sample in curve] for curve in (ours, theirs))

  def by(measure: Callable[..., float | None]) -> Estimate | None:
    def of(*values: float) -> float | None:
      turned = [metric.better(value) for value in values]
      return measure(bpp0, turned[len(ours) :], bpp, turned[: len(ours)])

    return paired.estimate(of, metric.name, *ours, *theirs, most=_BD_REPLICATES)

  in_percent = by(rate.bd_rate)
  share = in_percent and Estimate(
    in_percent.value / 100, in_percent.interval and tuple(x / 100 for x in in_percent.interval)
  )
  return Bjontegaard(role, codec, role0, codec0, share, by(rate.bd_metric))


def _rated(curve: list[Sample], metric: str) -> list[Sample]:
  """Samples with a rate and a value, one a rate."""
  found = {sample.bpp: sample for sample in curve if sample.bpp is not None and sample.value(metric) is not None}
  return [found[bpp] for bpp in sorted(found)]


# --------------------------------------------------------------------------------- how far one may compress


class Cheapest(NamedTuple):
  """The lowest rate whose loss stays within `allowed`, by the point estimate and by the interval."""

  role: str
  codec: Point
  allowed: float
  sample: Sample | None  # None: already the dearest setting loses more
  bpp_interpolated: float | None  # where the curve crosses the bound, between two measured settings
  loss: Estimate | None  # of `sample`, else of the dearest setting
  certain: Sample | None  # the cheapest whose whole interval lies within
  lowest: Sample  # the cheapest setting that was measured


def cheapest(panel: Panel, paired: Paired) -> list[Cheapest]:
  """Per role and codec, of the settings measured on the baseline's pictures; 'relative' needs no baseline."""
  return [
    one
    for codec in panel.codecs(("B", "C", "relative"))
    for role in ("B", "C", "relative")
    if (one := _cheapest(panel, paired, role, codec)) is not None
  ]


def _cheapest(panel: Panel, paired: Paired, role: str, codec: Point) -> Cheapest | None:
  metric = panel.metric
  reference = panel.baseline and panel.baseline.value(metric.name)
  if role == "relative":
    reference = 1.0 if metric.is_fraction else None
  curve = _rated(panel.curve(role, codec), metric.name)
  if reference is None:
    return None
  beside = () if role == "relative" else (panel.baseline,)
  curve = [sample for sample in curve if not paired.differ(*beside, sample)]
  if not curve:
    return None
  losses = [_loss(panel, paired, role, sample) for sample in curve]
  allowed = LOSS if metric.is_fraction else LOSS * abs(reference)
  start = _first_good([loss.value <= allowed for loss in losses])
  sure = _first_good([loss.interval is not None and loss.interval[1] <= allowed for loss in losses])
  chosen, crossing = (curve[start] if start < len(curve) else None), None
  if chosen is not None:
    upper = curve[max(start - 1, 0) :]
    values = [metric.better(sample.value(metric.name)) for sample in upper]
    found = rate.cheapest_within([sample.bpp for sample in upper], values, metric.better(reference), allowed)
    crossing = found and found.bpp_interpolated
  certain = curve[sure] if sure < len(curve) else None
  return Cheapest(role, codec, allowed, chosen, crossing, losses[min(start, len(curve) - 1)], certain, curve[0])


def _loss(panel: Panel, paired: Paired, role: str, sample: Sample) -> Estimate:
  metric = panel.metric
  if role == "relative":
    return paired.estimate(lambda own: 1.0 - own, metric.name, sample)
  return paired.estimate(lambda a, own: metric.better(a - own), metric.name, panel.baseline, sample)


def _first_good(good: list[bool]) -> int:
  """Where the run of good settings begins that reaches up to the dearest: a lucky outlier below it does not count."""
  start = len(good)
  while start and good[start - 1]:
    start -= 1
  return start


def by_rate(items: list[Gain]) -> Iterator[Gain]:
  """Base first, then by codec and rate, as a table reads."""
  yield from sorted(items, key=lambda g: (g.choice != "base", names.codec_key(g.test), g.bpp is None, g.bpp or 0.0))
