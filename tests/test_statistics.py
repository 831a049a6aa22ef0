"""Resamples that pair, intervals that cover, an exact McNemar."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robust_compress import statistics
from robust_compress.types import DataError


def accuracy(records, weights=None):
  return {"top1": float(np.average(records["correct"], weights=weights))}


def names(n):
  return [f"picture{i}" for i in range(n)]


# ------------------------------------------------------------------------------------------------ records


def test_stacking_keeps_shapes_and_makes_ragged_what_is_ragged():
  records = statistics.stack([{"score": np.float32(i), "boxes": np.ones((i, 4))} for i in range(3)])
  assert records["score"].dtype == np.float32
  assert records["score"].shape == (3,)
  assert [boxes.shape for boxes in records["boxes"]] == [(0, 4), (1, 4), (2, 4)]
  assert statistics.stack([]) == {}


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=4))
def test_batches_joined_equal_all_at_once(batches):
  """However the examples fall into batches, some uniform and some ragged."""
  batches = [[{"x": np.arange(k), "y": np.int32(k)} for k in batch] for batch in batches]
  whole = statistics.stack([record for batch in batches for record in batch])
  joined = statistics.concatenate([statistics.stack(batch) for batch in batches])
  assert whole.keys() == joined.keys()
  for name in whole:
    assert len(whole[name]) == len(joined[name])
    for a, b in zip(whole[name], joined[name]):
      np.testing.assert_array_equal(a, b)


def test_align_pairs_what_both_have():
  a, b = statistics.align(["c", "a", "b"], ["b", "d", "c"])
  assert (a.tolist(), b.tolist()) == ([2, 0], [0, 2])
  taken = statistics.take({"x": np.array([30, 10, 20])}, a)
  assert taken["x"].tolist() == [20, 30]


# ---------------------------------------------------------------------------------------------- bootstrap


def resamples(ids, n_replicates, seed=0):
  """All at once: uint16[r n]."""
  return np.stack(list(statistics.resamples(ids, n_replicates, seed)))


def test_resamples_are_multinomial_counts():
  n, weights = 40, resamples(names(40), 4000)
  assert weights.dtype == np.uint16
  assert weights.shape == (4000, n)
  assert (weights.sum(1) == n).all()
  np.testing.assert_allclose(weights.mean(0), 1, atol=0.1)
  np.testing.assert_allclose(weights.var(), 1 - 1 / n, rtol=0.03)
  np.testing.assert_allclose(np.mean(weights == 0), (1 - 1 / n) ** n, rtol=0.02)


@given(st.permutations(names(9)))
def test_an_id_gets_the_same_counts_in_whatever_order(ids):
  expected = dict(zip(names(9), resamples(names(9), 5).T.tolist()))
  assert dict(zip(ids, resamples(ids, 5).T.tolist())) == expected


def test_resamples_depend_on_seed_and_ids_and_never_change():
  ids = names(6)
  first = resamples(ids, 3)
  assert first.tolist() == [[0, 0, 2, 1, 2, 1], [0, 2, 0, 1, 3, 0], [0, 1, 4, 1, 0, 0]]  # in stored replicates too
  assert (resamples(ids, 3, seed=1) != first).any()
  assert (resamples([id + "x" for id in ids], 3) != first).any()
  np.testing.assert_array_equal(resamples(ids, 2), first[:2])


def test_twice_the_same_id_is_refused():
  with pytest.raises(DataError, match="'a' appears more than once"):
    resamples(["a", "b", "a"], 2)


def test_replicates_of_a_difference_pair():
  """Two models that differ on 6 of 400 pictures: the difference is certain to a point where the scores are not."""
  rng = np.random.default_rng(0)
  ids, a = names(400), rng.random(400) < 0.7
  b = a.copy()
  b[np.flatnonzero(a)[:6]] = False
  shuffled = rng.permutation(400)
  one = statistics.replicates(accuracy, {"correct": a}, ids)["top1"]
  two = statistics.replicates(accuracy, {"correct": b[shuffled]}, [ids[i] for i in shuffled])["top1"]
  low, high = statistics.interval(one - two)
  assert 0 < low < 6 / 400 < high
  assert high - low < 0.3 * np.subtract(*statistics.interval(one)[::-1])


def test_the_interval_of_a_proportion_is_the_textbook_one():
  correct = np.arange(1000) < 800
  low, high = statistics.interval(statistics.replicates(accuracy, {"correct": correct}, names(1000), 2000)["top1"])
  half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
  np.testing.assert_allclose([low, high], [0.8 - half, 0.8 + half], atol=0.003)


def test_intervals_cover_at_their_level():
  rng, covered = np.random.default_rng(1), 0
  for trial in range(200):
    values = rng.normal(size=60)
    records, ids = {"correct": values}, [f"{trial}/{i}" for i in range(60)]
    low, high = statistics.interval(statistics.replicates(accuracy, records, ids, 300)["top1"])
    covered += low <= 0 <= high
  assert 0.89 <= covered / 200 <= 0.99


def test_undefined_replicates():
  values = np.linspace(0, 1, 1000)
  assert statistics.interval(np.where(values < 0.02, np.nan, values))[0] > 0.02
  assert np.isnan(statistics.interval(np.where(values < 0.2, np.nan, values))).all()
  assert np.isnan(statistics.interval(np.array([]))).all()


def test_memory_does_not_grow_with_replicates_times_examples():
  ids, records = names(20_000), {"correct": np.ones(20_000, np.uint8)}
  tracemalloc.start()
  statistics.replicates(accuracy, records, ids, 40)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 8e6  # all weights at once would be 6.4 MB as float64 beside the ids' 3 MB


def test_several_seeds_widen_the_interval_and_one_does_not():
  rng = np.random.default_rng(2)
  test = rng.normal(0, 0.01, 4000)  # sampling of pictures, common to all trainings
  alone = np.array([test + 0.5])
  np.testing.assert_array_equal(statistics.over_seeds(alone), alone[0])
  offsets = np.array([-0.03, 0.0, 0.03])
  spread = statistics.over_seeds(test + offsets[:, None] + 0.5)
  np.testing.assert_allclose(spread.mean(), 0.5, atol=2e-3)
  np.testing.assert_allclose(spread.var(), 0.01**2 + offsets.var(ddof=1) / 3, rtol=0.08)


# ------------------------------------------------------------------------------------------------ McNemar


@settings(max_examples=60)
@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_the_exact_binomial_test(n01, n10):
  a = np.r_[np.zeros(n01), np.ones(n10), np.ones(5)].astype(bool)
  b = np.r_[np.ones(n01), np.zeros(n10), np.ones(5)].astype(bool)
  result = statistics.mcnemar(a, b)
  assert (result.n01, result.n10) == (n01, n10)
  expected = stats.binomtest(n01, n01 + n10).pvalue if n01 + n10 else 1.0
  np.testing.assert_allclose(result.p_value, expected, rtol=1e-9)


def test_mcnemar_of_many_and_of_unequal_numbers():
  a = np.arange(50_000) < 26_000
  assert 0 <= statistics.mcnemar(a, ~a).p_value < 1e-15
  with pytest.raises(DataError, match="one to one"):
    statistics.mcnemar(a, a[:-1])
