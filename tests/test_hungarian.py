"""The assignment inside a compiled step, against scipy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from robust_compress.models import hungarian

assign = jax.jit(hungarian.assign)


def total_of(cost, valid):
  """The cost of our assignment, which is checked to be one: as many pairs as there can be, no column twice."""
  found = np.asarray(assign(cost, valid))
  assert (found[~valid] == -1).all()
  rows = np.flatnonzero(found >= 0)
  assert len(rows) == len(set(found[rows])) == min(valid.sum(), cost.shape[1])
  return cost.astype(np.float64)[rows, found[rows]].sum()


def assert_least(cost, valid):
  cost = cost.astype(np.float32)
  expected = cost[valid].astype(np.float64)[linear_sum_assignment(cost[valid])].sum()
  assert total_of(cost, valid) == pytest.approx(expected, abs=1e-5 * float(max(1, np.abs(cost).max())) * len(cost))


def made(kind, shape, rng):
  if kind == "tied":
    return rng.integers(0, 3, shape)
  if kind == "equal":
    return np.full(shape, 0.5)
  if kind == "degenerate":  # of rank one: every assignment of the same columns costs the same
    return np.add.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
  if kind == "near":  # targets a little beside their queries, as late in training
    queries = rng.random((shape[1], 2))
    targets = queries[rng.integers(0, shape[1], shape[0])] + 0.01 * rng.normal(size=(shape[0], 2))
    return np.abs(targets[:, None] - queries).sum(-1)
  return rng.normal(size=shape) * {"random": 1, "large": 1e4}[kind]


@pytest.mark.parametrize("kind", ["random", "large", "tied", "equal", "degenerate", "near"])
@pytest.mark.parametrize("shape", [(1, 1), (6, 20), (20, 20), (30, 20)])
def test_the_sum_is_scipy_s(kind, shape):
  rng = np.random.default_rng(0)
  for n_valid in sorted({0, 1, shape[0] // 2, shape[0] - 2, shape[0]} - {-1, -2}):
    valid = np.zeros(shape[0], bool)
    valid[rng.permutation(shape[0])[:n_valid]] = True
    assert_least(made(kind, shape, rng), valid)


def test_a_hundred_targets_and_queries():
  rng = np.random.default_rng(1)
  for _ in range(5):
    assert_least(rng.normal(size=(100, 100)), np.ones(100, bool))


def test_problems_side_by_side_are_the_same_as_alone():
  rng = np.random.default_rng(2)
  cost, valid = rng.normal(size=(5, 12, 20)).astype(np.float32), rng.random((5, 12)) < 0.6
  together = jax.jit(jax.vmap(hungarian.assign))(cost, valid)
  for one, *problem in zip(together, cost, valid):
    np.testing.assert_array_equal(one, assign(*problem))


def test_costs_that_are_not_finite_are_taken_last():
  cost = np.array([[np.nan, 1, 2], [np.inf, np.nan, 5], [0, np.inf, -np.inf]], np.float32)
  np.testing.assert_array_equal(assign(cost, np.ones(3, bool)), [1, 2, 0])
  np.testing.assert_array_equal(np.sort(assign(np.full((3, 3), np.nan, np.float32), np.ones(3, bool))), [0, 1, 2])


def test_nothing_is_differentiated():
  def best(cost):
    return jnp.take_along_axis(cost, hungarian.assign(cost, jnp.ones(2, bool))[:, None], 1).sum()

  gradient = jax.jit(jax.grad(best))(jnp.float32([[3, 1, 2], [0, -1, 4]]))
  np.testing.assert_array_equal(gradient, [[0, 1, 0], [1, 0, 0]])
