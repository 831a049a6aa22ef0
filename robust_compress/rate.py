"""Comparing curves of a metric over rate, and finding the level that meets a rate.

    (bpp, metric) of a, of b ──▶ bd_rate: how many more bits b takes for the same metric
                             ──▶ bd_metric: how much more metric b gives for the same bits
    bpp at a level, target   ──search_level──▶ the level of that codec closest to the target
    … on a sample, on all    ──search_all──▶   the same for a whole data set, in few passes over it

Rates are bits per pixel. Metrics are such that more is better; negate an error before it comes here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import interpolate

from robust_compress.types import LevelError

TOLERANCE = 0.05  # a target rate missed by more than this is flagged
SEARCH_VERSION = 1  # of how a level is sought, which settles the levels of pictures that have their own
_DOUBT = 0.25  # an end of the ladder that misses by less on a sample may still reach the target on all
_NOISE = 0.01  # of a rate that is estimated from its neighbour's and the sample
_METHODS = {"pchip": interpolate.PchipInterpolator, "akima": interpolate.Akima1DInterpolator}
Values = Sequence[float] | np.ndarray
Curve = tuple[np.ndarray, np.ndarray]  # x strictly rising, y


# ------------------------------------------------------------------------------------ Bjøntegaard deltas


def frontier(bpp: Values, metric: Values) -> np.ndarray:
  """Indices, by rising rate, of the points that no point of equal or lower rate equals or beats. Others nobody buys."""
  bpp, metric = np.asarray(bpp, np.float64), np.asarray(metric, np.float64)
  kept: list[int] = []
  for i in np.lexsort((-metric, bpp)):
    if np.isfinite(metric[i]) and bpp[i] > 0 and (not kept or metric[i] > metric[kept[-1]]):
      kept.append(int(i))
  return np.array(kept, np.int64)


def bd_rate(bpp_a: Values, metric_a: Values, bpp_b: Values, metric_b: Values, method: str = "pchip") -> float | None:
  """Bjøntegaard delta rate: percent of bits that b takes more (negative: fewer) than a at equal metric.

  The mean of log rate over the range of the metric that both curves cover (VCEG-M33), each curve interpolated by
  'pchip', as in the common test conditions of JVET, or by 'akima' (Herglotz et al. 2022, arXiv:2202.12565).

  Rate as a function of the metric exists only where the metric rises. An accuracy curve may fall back by chance or near
  its ceiling, so both are first reduced to their `frontier`: the cheapest way to each metric, which is what one would
  use. PCHIP does not overshoot there, where the curve is steep; so it is the default.

  Returns:
    None where the curves share no range of the metric, or either has fewer than two points on its frontier.
  """
  delta = _mean_difference(_rate_by_metric(bpp_a, metric_a), _rate_by_metric(bpp_b, metric_b), method)
  return None if delta is None else 100 * math.expm1(delta)


def bd_metric(bpp_a: Values, metric_a: Values, bpp_b: Values, metric_b: Values, method: str = "pchip") -> float | None:
  """Bjøntegaard delta of the metric: how much b has more than a at equal rate, in the metric's own unit.

  The mean over the range of log rate that both cover. A metric that falls back is no difficulty here: every point
  counts, and of several at one rate the best. None as in `bd_rate`.
  """
  return _mean_difference(_metric_by_rate(bpp_a, metric_a), _metric_by_rate(bpp_b, metric_b), method)


def _rate_by_metric(bpp: Values, metric: Values) -> Curve:
  kept = frontier(bpp, metric)
  return np.asarray(metric, np.float64)[kept], np.log(np.asarray(bpp, np.float64)[kept])


def _metric_by_rate(bpp: Values, metric: Values) -> Curve:
  best: dict[float, float] = {}
  for x, y in zip(np.asarray(bpp, np.float64).tolist(), np.asarray(metric, np.float64).tolist(), strict=True):
    if x > 0 and math.isfinite(y):
      best[x] = max(y, best.get(x, y))
  rates = sorted(best)
  return np.log(rates), np.array([best[x] for x in rates])


def _mean_difference(a: Curve, b: Curve, method: str) -> float | None:
  """Mean of b(x) - a(x) over the x that both cover."""
  if min(len(a[0]), len(b[0])) < 2:
    return None
  low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
  if not low < high:
    return None
  areas = [float(_METHODS[method](x, y).integrate(low, high)) for x, y in (a, b)]
  return (areas[1] - areas[0]) / float(high - low)


# --------------------------------------------------------------------------------- what a user may choose


class Cheapest(NamedTuple):
  """The lowest rate at which a metric is good enough."""

  point: int  # index of the measured point
  bpp: float  # its rate
  bpp_interpolated: float  # where the line, over log rate, from the next cheaper point crosses the bound


def cheapest_within(bpp: Values, metric: Values, baseline: float, loss: float) -> Cheapest | None:
  """The measured point of lowest rate whose metric is at least `baseline - loss`; None where there is none."""
  bpp, metric = np.asarray(bpp, np.float64), np.asarray(metric, np.float64)
  order, bound = np.argsort(bpp, kind="stable"), baseline - loss
  good = [k for k, i in enumerate(order) if metric[i] >= bound]
  if not good:
    return None
  i = int(order[good[0]])
  if good[0] == 0:
    return Cheapest(i, float(bpp[i]), float(bpp[i]))
  j = int(order[good[0] - 1])
  share = (bound - metric[j]) / (metric[i] - metric[j])
  crossing = math.exp((1 - share) * math.log(bpp[j]) + share * math.log(bpp[i]))
  return Cheapest(i, float(bpp[i]), crossing)


def recovered(a: Values | float, b: Values | float, c: Values | float) -> np.ndarray:
  """Share of the loss that finetuning brings back, (c - b) / (a - b), where a - b is a loss, else NaN.

  Elementwise, so replicates go in as they are: `statistics.interval(recovered(a, b, c))` is its interval, undefined
  where more than 5 % of the resamples show no loss to recover.
  """
  a, b, c = (np.asarray(x, np.float64) for x in (a, b, c))
  loss = a - b
  return np.divide(c - b, loss, out=np.full(np.broadcast(a, b, c).shape, np.nan), where=loss > 0)


# ------------------------------------------------------------------------------------------ target rates


class Resolved(NamedTuple):
  """The level that stands for a target rate."""

  level: float
  bpp: float  # at that level
  miss: float  # bpp / target - 1
  reachable: bool  # whether the target lies between the rates of the first and the last level, or near one of them


def search_level(
  rate_at: Callable[[float], float], levels: Sequence[float], target: float, *,
  continuous: bool = False, accuracy: float = 0.005, max_calls: int = 24,
) -> Resolved:  # fmt: skip
  """The level whose rate is nearest to `target` bpp, by bisection: about log2(len(levels)) calls of `rate_at`.

  Args:
    rate_at: level -> bpp over the data. Called once a level; expected to rise along the ladder. Where it dips, a
      level next to a crossing of the target is found, not always the nearest of all.
    levels: the ladder from low rate to high (a QP ladder descends). Every step counts for a discrete codec; a
      continuous one is searched between its two steps that the target lies between.
    target: bits per pixel.
    continuous: whether any number between two levels is a level.
    accuracy: relative miss at which a continuous search stops.
    max_calls: bound on the calls of a continuous search.

  Raises:
    LevelError: no level, or a target that is not positive.
  """
  search = steps(levels, target, continuous=continuous, accuracy=accuracy, max_calls=max_calls)
  level = next(search)
  while True:
    try:
      level = search.send(float(rate_at(level)))
    except StopIteration as end:
      return end.value


def steps(
  levels: Sequence[float], target: float, *, continuous: bool = False, accuracy: float = 0.005, max_calls: int = 24
) -> Generator[float, float, Resolved]:
  """`search_level` a step at a time: yields a level, is sent its rate, and returns what it found.

  So the searches of several pictures go side by side, and a network codes all of them in one call.
  """
  if not levels or not target > 0:
    raise LevelError(f"target {target} bpp over {len(levels)} levels; expected a rate above 0 and at least one level")
  rates: dict[float, float] = {}
  below, above = -1, len(levels)  # an end, where codecs are slowest, is tried only if the search leads there
  while above - below > 1:
    middle = (below + above) // 2
    rates[levels[middle]] = rate = yield levels[middle]
    below, above = (middle, above) if rate < target else (below, middle)
  inside = below >= 0 and above < len(levels)
  if inside and continuous:
    low, high = levels[below], levels[above]
    while len(rates) < max_calls and min(abs(rate / target - 1) for rate in rates.values()) > accuracy:
      middle = (low + high) / 2
      rates[middle] = rate = yield middle
      low, high = (middle, high) if rate < target else (low, middle)
  return _nearest(rates, target, inside)


def search_all(
  sampled: Callable[[float], float], whole: Callable[[float], float], levels: Sequence[float], target: float, *,
  continuous: bool = False, accuracy: float = 0.005, max_passes: int = 4,
) -> Resolved:  # fmt: skip
  """The level whose rate over all the data is nearest to `target`: sought on a sample, verified on all.

  A pass over all of it tells how its rate at one level stands to the sample's. The sample's rates, scaled by that, are
  searched again, until the search comes back to a level that had its pass, and no level beside it may be nearer.

  Args:
    sampled: level -> bpp over the sample; may be asked for one level several times.
    whole: level -> bpp over all. Not called for a target that the sample puts far out of reach.
    max_passes: bound on the calls of `whole`.
  """
  passed: dict[float, float] = {}
  scale = 1.0
  while True:
    found = search_level(
      lambda level, scale=scale: scale * sampled(level), levels, target, continuous=continuous, accuracy=accuracy
    )
    level = found.level
    if level in passed and not continuous and scale != 1:  # else the sample is all there is
      level = _rival(passed, levels, lambda level, scale=scale: scale * sampled(level), target)
    if level in passed or len(passed) == max_passes or not (found.reachable or abs(found.miss) < _DOUBT):
      break
    passed[level] = whole(level)
    scale = passed[level] / sampled(level)
    if continuous and abs(passed[level] / target - 1) <= accuracy:
      break
  return _nearest(passed, target, found.reachable) if passed else found


def _rival(
  passed: Mapping[float, float], levels: Sequence[float], estimate: Callable[[float], float], target: float
) -> float:
  """The level beside the best one passed that may be nearer, as far as an estimate tells; else that one itself."""
  best = _nearest(passed, target, True)
  place = levels.index(best.level)
  reach = abs(best.bpp - target) + _NOISE * target
  beside = [level for level in levels[max(place - 1, 0) : place + 2] if level not in passed]
  return next((level for level in beside if abs(estimate(level) - target) < reach), best.level)


def _nearest(rates: Mapping[float, float], target: float, inside: bool) -> Resolved:
  level = min(rates, key=lambda level: abs(rates[level] - target))
  miss = rates[level] / target - 1
  return Resolved(level, rates[level], miss, inside or abs(miss) <= TOLERANCE)
