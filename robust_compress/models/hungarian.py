"""The assignment problem, solved exactly inside a compiled step: which query answers for which target.

    target ──cheapest path through queries that are taken, whose targets move on──▶ a free query     (for each in turn)

Jonker and Volgenant's shortest augmenting paths (1987), by Dijkstra over reduced costs. Shapes are static: targets are
padded and masked. Under `vmap` problems run side by side, as long as the longest of them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

LARGE = 1e6  # in place of costs that are not finite: such a pair is taken last


class _Search(NamedTuple):
  """A search from one row, by column."""

  distance: jax.Array  # float32[m]: length of the cheapest path found
  before: jax.Array  # int32[m]: the column that it comes from, -1 from the row itself
  scanned: jax.Array  # bool[m]: whether that is final
  column: jax.Array  # int32[]: where the search has come to


def assign(cost: jax.Array, valid: jax.Array) -> jax.Array:
  """int32[n]: the column of every valid row, all different, so that the sum of cost[n m] is least; −1 for other rows.

  Where there are more valid rows than columns, the cheapest choice of m rows gets one. Nothing is differentiated.

  Args:
    cost: float32[n m] of pairing a row (a target) with a column (a query).
    valid: bool[n]; the other rows are padding.
  """
  n, m = cost.shape
  cost = jax.lax.stop_gradient(jnp.nan_to_num(cost, nan=LARGE, posinf=LARGE, neginf=LARGE))
  order, n_valid = jnp.argsort(~valid), valid.sum()  # valid rows first
  spare = jnp.where(jnp.arange(max(n - m, 0)) < n_valid - m, 0.0, jnp.inf)  # columns for rows that get none
  cost = jnp.concatenate([cost[order], jnp.broadcast_to(spare, (n, *spare.shape))], 1)

  def add(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    row, rows, prices = state
    return row + 1, *_add(cost, row, rows, prices)

  columns = cost.shape[1]
  start = jnp.int32(0), jnp.full(columns, -1, jnp.int32), jnp.zeros(columns, cost.dtype)
  _, rows, _ = jax.lax.while_loop(lambda state: state[0] < n_valid, add, start)
  rows = jnp.where(rows < 0, n, order[rows].astype(jnp.int32))[:m]  # n: out of bounds, dropped
  return jnp.full(n, -1, jnp.int32).at[rows].set(jnp.arange(m, dtype=jnp.int32), mode="drop")


def _add(cost: jax.Array, row: jax.Array, rows: jax.Array, prices: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Assigns one row more: (rows int32[m]: of each column or −1, prices float32[m]: the columns' dual variables)."""
  found = _search(cost, row, rows, prices)
  end = found.distance[found.column]
  prices = prices - jnp.where(found.scanned, end - found.distance, 0.0)

  def shift(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The column gets the row of the one before it on the path."""
    rows, column = state
    before = found.before[column]
    return rows.at[column].set(jnp.where(before < 0, row, rows[before])), before

  return jax.lax.while_loop(lambda state: state[1] >= 0, shift, (rows, found.column))[0], prices


def _search(cost: jax.Array, row: jax.Array, rows: jax.Array, prices: jax.Array) -> _Search:
  """Dijkstra from a row to the nearest column that has none.

  A column's row has as its own dual variable what makes the pair's reduced cost zero, so that none is kept.
  """
  m = cost.shape[1]

  def widen(found: _Search) -> _Search:
    at = found.column
    origin = rows[at]
    through = found.distance[at] + cost[origin] - prices - (cost[origin, at] - prices[at])
    scanned = found.scanned.at[at].set(True)
    nearer = ~scanned & (through < found.distance)
    distance = jnp.where(nearer, through, found.distance)
    return _Search(distance, jnp.where(nearer, at, found.before), scanned, _nearest(distance, scanned))

  distance, none = cost[row] - prices, jnp.zeros(m, bool)
  start = _Search(distance, jnp.full(m, -1, jnp.int32), none, _nearest(distance, none))
  return jax.lax.while_loop(lambda found: rows[found.column] >= 0, widen, start)


def _nearest(distance: jax.Array, scanned: jax.Array) -> jax.Array:
  return jnp.where(scanned, jnp.inf, distance).argmin().astype(jnp.int32)
