"""Bjøntegaard deltas against the field's implementation and against answers known in closed form; target rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress import rate, statistics
from robust_compress.types import LevelError

# Rate and PSNR of libx265 at two presets, the example of the package `bjontegaard`, and what its version 1.3.0 answers.
ANCHOR = [9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851]
TEST = [9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987]
OTHER = [12000.0, 5000.0, 1400.0], [41.0, 38.0, 33.5]
ANSWERS = [
  ("pchip", TEST, -4.417485350589045, 0.11969278542479489),
  ("akima", TEST, -4.425245156997493, 0.11940927028529469),
  ("pchip", OTHER, 34.72527488064754, -0.9422203660800859),
  ("akima", OTHER, 34.66879029204417, -0.9436784075551878),
]


@pytest.mark.parametrize(("method", "test", "bd_rate", "bd_metric"), ANSWERS)
def test_agreement_with_the_bjontegaard_package(method, test, bd_rate, bd_metric):
  np.testing.assert_allclose(rate.bd_rate(*ANCHOR, *test, method), bd_rate, rtol=1e-9)
  np.testing.assert_allclose(rate.bd_metric(*ANCHOR, *test, method), bd_metric, rtol=1e-9)


curves = st.lists(
  st.tuples(st.integers(1, 400), st.integers(0, 100)), min_size=2, max_size=8, unique_by=lambda point: point[0]
).map(lambda points: (np.array([p[0] for p in points]) / 100, np.array([p[1] for p in points]) / 100))


@given(curves, st.floats(0.1, 10))
def test_a_constant_factor_of_rate_is_that_factor(curve, factor):
  bpp, metric = curve
  found = rate.bd_rate(bpp, metric, bpp * factor, metric)
  if len(rate.frontier(bpp, metric)) < 2:
    assert found is None
  else:
    np.testing.assert_allclose(found, 100 * (factor - 1), rtol=1e-6, atol=1e-6)


@given(curves, st.floats(-0.5, 0.5))
def test_a_constant_gain_of_the_metric_is_that_gain(curve, gain):
  bpp, metric = curve
  np.testing.assert_allclose(rate.bd_metric(bpp, metric, bpp, metric + gain), gain, atol=1e-9)


@given(curves, curves)
def test_swapping_the_curves_inverts_the_answer(a, b):
  there, back = rate.bd_rate(*a, *b), rate.bd_rate(*b, *a)
  assert (there is None) == (back is None)
  if there is not None and back is not None:
    np.testing.assert_allclose((1 + there / 100) * (1 + back / 100), 1, rtol=1e-9)


def test_a_dip_is_not_bought():
  bpp, metric = [0.1, 0.2, 0.3, 0.4, 0.8], [0.3, 0.5, 0.45, 0.6, 0.6]
  assert rate.frontier(bpp, metric).tolist() == [0, 1, 3]
  clean = [0.1, 0.2, 0.4], [0.3, 0.5, 0.6]
  assert rate.bd_rate(bpp, metric, *TEST) is None
  np.testing.assert_allclose(rate.bd_rate(*clean, bpp, metric), 0, atol=1e-9)


def test_no_overlap_is_none():
  low, high = ([0.1, 0.2], [0.1, 0.2]), ([1.0, 2.0], [0.7, 0.8])
  assert rate.bd_rate(*low, *high) is None
  assert rate.bd_metric(*low, *high) is None
  assert rate.bd_rate([0.1], [0.5], *low) is None
  assert rate.bd_rate([0.1, 0.2], [0.5, math.nan], *low) is None


# ------------------------------------------------------------------------------------------------- choices


def test_cheapest_within_a_loss():
  bpp, metric = [2.0, 0.5, 1.0, 0.25], [0.80, 0.77, 0.795, 0.6]
  found = rate.cheapest_within(bpp, metric, baseline=0.8, loss=0.01)
  assert (found.point, found.bpp) == (2, 1.0)
  np.testing.assert_allclose(found.bpp_interpolated, 0.5 * 2 ** ((0.79 - 0.77) / (0.795 - 0.77)))
  assert rate.cheapest_within(bpp, metric, 0.5, 0.01) == rate.Cheapest(3, 0.25, 0.25)
  assert rate.cheapest_within(bpp, metric, 0.9, 0.01) is None


def test_recovered_share_and_its_interval():
  assert rate.recovered(0.8, 0.6, 0.75) == pytest.approx(0.75)
  assert np.isnan(rate.recovered(0.6, 0.6, 0.75))
  rng = np.random.default_rng(0)
  common, a, b, c = rng.normal(0, 0.02, 1000), 0.8, 0.6, 0.7
  low, high = statistics.interval(rate.recovered(a + common, b + common, c + common + rng.normal(0, 0.01, 1000)))
  assert 0.3 < low < 0.5 < high < 0.7
  no_loss = rate.recovered(0.6 + rng.normal(0, 0.01, 1000), np.full(1000, 0.6), np.full(1000, 0.61))
  assert np.isnan(statistics.interval(no_loss)).all()


# -------------------------------------------------------------------------------------------- target rates


def counted(rate_at):
  calls = []
  return calls, lambda level: calls.append(level) or rate_at(level)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=100, unique=True), st.integers(1, 10**6), st.booleans())
def test_a_ladder_gives_the_nearest_level(rates, target, descending):
  rates = sorted(rates)
  levels = range(len(rates))[:: -1 if descending else 1]
  table = dict(zip(levels, rates))
  calls, rate_at = counted(table.__getitem__)
  found = rate.search_level(rate_at, list(levels), target)
  assert abs(found.bpp - target) == min(abs(r - target) for r in rates)
  assert found.bpp == table[found.level]
  assert len(calls) == len(set(calls)) <= 2 + math.ceil(math.log2(len(rates) + 1))


def test_a_miss_is_told_and_what_lies_outside_is_unreachable():
  def rate_at(level):
    return level / 10

  assert rate.search_level(rate_at, [1, 2, 3], 0.21) == (2, 0.2, pytest.approx(0.2 / 0.21 - 1), True)
  between, below = rate.search_level(rate_at, [1, 2, 3], 0.25), rate.search_level(rate_at, [1, 2, 3], 0.05)
  assert abs(between.miss) == pytest.approx(0.2)
  assert between.reachable
  assert (below.level, below.reachable) == (1, False)
  assert rate.search_level(rate_at, [1, 2, 3], 0.31).reachable  # within the tolerance


def test_a_continuous_level_meets_its_rate():
  calls, rate_at = counted(lambda level: math.exp(-level / 10))
  found = rate.search_level(rate_at, [51.0, 0.0], 0.1, continuous=True)
  assert abs(found.miss) <= 0.005
  assert len(calls) < 15


def test_the_ends_of_a_ladder_are_tried_only_where_the_search_leads_there():
  calls, rate_at = counted(lambda level: (52 - level) / 10)
  assert rate.search_level(rate_at, range(51, -1, -1), 2.52).level == 27
  assert {51, 0}.isdisjoint(calls)
  calls.clear()
  assert not rate.search_level(rate_at, range(51, -1, -1), 0.01).reachable
  assert 51 in calls
  assert 0 not in calls


def test_searches_go_side_by_side():
  """The first step of every search is known before any rate, as a network wants it."""
  targets = [0.3, 1.2, 4.9]
  searches = [rate.steps(range(1, 52), target) for target in targets]
  asked, found = {i: next(search) for i, search in enumerate(searches)}, {}
  while asked:
    for i, level in list(asked.items()):
      try:
        asked[i] = searches[i].send(level / 10)
      except StopIteration as end:
        found[i] = end.value
        del asked[i]
  assert [found[i] for i in range(3)] == [rate.search_level(lambda x: x / 10, range(1, 52), t) for t in targets]


def test_a_sample_that_misleads_is_put_right_by_a_pass_over_all():
  passes, whole = counted(lambda level: 1.3 * level / 10)
  found = rate.search_all(lambda level: level / 10, whole, range(1, 101), 2.0)
  assert found == (15, pytest.approx(1.95), pytest.approx(-0.025), True)
  assert passes == [20, 15]
  passes.clear()
  assert rate.search_all(lambda level: level / 10, whole, range(1, 101), 2.01).level == 15
  assert passes == [20, 15, 16]  # 1.95 and 2.08: too near to tell without a look


@given(
  st.lists(st.floats(1.01, 1.5), min_size=3, max_size=60),
  st.lists(st.floats(0.97, 1.03), min_size=60, max_size=60),
  st.floats(0.5, 2),
  st.floats(0.1, 0.9),
)
def test_the_level_for_all_is_nearest_among_those_passed_and_passes_are_few(ratios, noise, scale, where):
  whole = np.cumprod(ratios)
  sampled = np.maximum.accumulate(scale * whole * noise[: len(whole)])
  target = float(whole[0] + where * (whole[-1] - whole[0]))
  passes, rate_of_all = counted(lambda level: float(whole[level]))
  found = rate.search_all(lambda level: float(sampled[level]), rate_of_all, range(len(whole)), target)
  assert len(passes) == len(set(passes)) <= 4
  if passes:
    assert abs(found.bpp - target) == min(abs(whole[level] - target) for level in passes)
    assert found.bpp == whole[found.level]


@given(st.lists(st.floats(1.01, 1.5), min_size=3, max_size=60), st.floats(0.9, 1.1), st.floats(0.1, 0.9))
def test_a_sample_that_is_only_dearer_or_cheaper_leads_to_the_nearest_level(ratios, scale, where):
  whole = np.cumprod(ratios)
  target = float(whole[0] + where * (whole[-1] - whole[0]))
  passes, rate_of_all = counted(lambda level: float(whole[level]))
  found = rate.search_all(lambda level: scale * float(whole[level]), rate_of_all, range(len(whole)), target)
  assert abs(found.bpp - target) == np.abs(whole - target).min()
  assert len(passes) <= (1 if scale == 1 else 4)


def test_a_continuous_level_is_found_on_all_too():
  passes, whole = counted(lambda level: 1.07 * math.exp(-level / 10))
  found = rate.search_all(lambda level: math.exp(-level / 10), whole, [51.0, 30.0, 0.0], 0.1, continuous=True)
  assert abs(found.miss) <= 0.005
  assert len(passes) == 2


def test_what_the_sample_puts_far_out_of_reach_is_not_coded_to_know():
  passes, whole = counted(lambda level: level / 10)
  assert not rate.search_all(lambda level: level / 10, whole, [5, 6, 7], 0.1).reachable
  assert passes == []
  near = rate.search_all(lambda level: level / 10, whole, [5, 6, 7], 0.45)  # the sample may be wrong by so much
  assert (near.level, near.reachable, passes) == (5, False, [5])
  assert rate.search_all(lambda level: level / 10, lambda level: level / 12, [5, 6, 7], 0.45).reachable


def test_targets_must_be_rates():
  with pytest.raises(LevelError):
    rate.search_level(float, [1], 0)
  with pytest.raises(LevelError):
    rate.search_level(float, [], 0.1)
