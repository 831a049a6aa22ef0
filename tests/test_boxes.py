"""Overlaps, deltas and suppression of boxes, against their definitions in numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_compress.models import boxes as boxes_


def some(n, seed=0, side=100.0):
  rng = np.random.default_rng(seed)
  corner = rng.uniform(0, side, (n, 2))
  return np.concatenate([corner, corner + rng.uniform(1, side / 2, (n, 2))], 1).astype(np.float32)


def plain_iou(a, b):
  w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
  h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
  union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
  return w * h / union if union > 0 else 0.0


def plain_nms(found, scores, labels, threshold):
  """The greedy definition: go down the scores, keep what nothing kept of its label overlaps."""
  kept = []
  for i in np.argsort(-scores, kind="stable"):
    if scores[i] > 0 and all(labels[i] != labels[j] or plain_iou(found[i], found[j]) <= threshold for j in kept):
      kept.append(i)
  return kept


def test_overlaps_are_their_definitions():
  a, b = some(7), some(5, seed=1)
  expected = np.array([[plain_iou(x, y) for y in b.astype(float)] for x in a.astype(float)])
  np.testing.assert_allclose(boxes_.iou(a, b), expected, atol=1e-6)
  hull = np.array([[(max(x[2], y[2]) - min(x[0], y[0])) * (max(x[3], y[3]) - min(x[1], y[1])) for y in b] for x in a])
  sums = np.asarray(boxes_.area(a))[:, None] + np.asarray(boxes_.area(b))
  union = sums / (1 + expected)
  np.testing.assert_allclose(boxes_.giou(a, b), expected - (hull - union) / hull, atol=1e-5)
  np.testing.assert_allclose(boxes_.paired_giou(a[:5], b), np.diagonal(boxes_.giou(a[:5], b)), atol=1e-6)
  np.testing.assert_allclose(boxes_.paired_iou(a[:5], b), np.diagonal(expected), atol=1e-6)


def test_empty_boxes_overlap_nothing_and_have_gradients():
  empty = jnp.zeros((2, 4))
  assert np.all(np.asarray(boxes_.iou(empty, empty)) == 0)
  assert np.all(np.isfinite(jax.grad(lambda x: boxes_.paired_giou(x, empty).sum())(empty)))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decoding_undoes_encoding(weights):
  a, anchors = some(20), some(20, seed=1)
  np.testing.assert_allclose(boxes_.decode(boxes_.encode(a, anchors, weights), anchors, weights), a, atol=1e-3)
  np.testing.assert_allclose(boxes_.from_centres(boxes_.to_centres(a)), a, atol=1e-4)


def test_decoded_sides_are_bounded():
  anchor, far = np.array([[0, 0, 1, 1]], np.float32), np.array([[0, 0, 99, -99]], np.float32)
  size = boxes_.to_centres(boxes_.decode(far, anchor))[0, 2:]
  np.testing.assert_allclose(size, [62.5, 0], rtol=1e-5)
  np.testing.assert_allclose(
    boxes_.to_centres(boxes_.decode(far, anchor, two_sided=True))[0, 2:], [62.5, 1 / 62.5], rtol=1e-3
  )


def test_clipping_takes_one_size_for_each_picture():
  found = boxes_.clip(jnp.array([[[-5.0, -5.0, 50.0, 50.0]]] * 2), jnp.array([[10], [20]]), jnp.array([[30], [40]]))
  np.testing.assert_array_equal(found[:, 0], [[0, 0, 30, 10], [0, 0, 40, 20]])


@pytest.mark.parametrize(("n", "n_labels", "threshold"), [(1, 1, 0.5), (40, 1, 0.3), (700, 3, 0.5), (1100, 1, 0.7)])
def test_suppression_is_the_greedy_definition(n, n_labels, threshold):
  found, rng = some(n, seed=n), np.random.default_rng(n)
  scores = rng.uniform(size=n).astype(np.float32).round(2)  # with ties
  labels = rng.integers(0, n_labels, n).astype(np.int32)
  expected = plain_nms(found.astype(float), scores, labels, threshold)
  given = labels if n_labels > 1 else None
  kept = np.asarray(jax.jit(boxes_.nms, static_argnums=(3, 4))(found, scores, given, threshold, n + 3))
  assert kept.dtype == np.int32
  assert kept[: len(expected)].tolist() == expected
  assert np.all(kept[len(expected) :] == -1)


def test_a_chain_of_suppression_settles():
  """Each box overlaps only its neighbours: every second one stays, after as many rounds as there are boxes."""
  x = np.arange(600, dtype=np.float32) * 0.6
  chain = np.stack([x, 0 * x, x + 1, 0 * x + 1], 1)
  kept = boxes_.nms(chain, np.linspace(1, 0.1, 600, dtype=np.float32), None, 0.2, 300)
  np.testing.assert_array_equal(kept, np.arange(0, 600, 2))


def test_padding_is_neither_kept_nor_suppresses_and_pictures_are_apart():
  found = jnp.array([[0, 0, 9, 9], [0, 0, 9, 9], [3, 3, 3, 3], [3, 3, 3, 3]], jnp.float32)
  scores = np.array([[-np.inf, 0.5, 0.2, 0.3], [0.9, 0.5, 0.0, -1.0]], np.float32)
  kept = jax.vmap(lambda s: boxes_.nms(found, s, None, 0.5, 4))(scores)
  np.testing.assert_array_equal(kept, [[1, 3, 2, -1], [0, -1, -1, -1]])


@pytest.mark.parametrize("n_out", [5, 60])
def test_the_best_by_class_are_those_of_suppression(n_out):
  n, k = 40, 3
  rng = np.random.default_rng(n_out)
  found = some(n * k, seed=n_out).reshape(n, k, 4)
  scores = np.maximum(rng.uniform(-0.2, 1, (n, k)), 0).astype(np.float32).round(2)
  labels = np.broadcast_to(np.arange(k, dtype=np.int32), (n, k)).ravel()
  expected = boxes_.nms(jnp.asarray(found.reshape(-1, 4)), jnp.asarray(scores.ravel()), jnp.asarray(labels), 0.3, n_out)
  actual = jax.jit(boxes_.best_by_class, static_argnums=(2, 3))(found, scores, 0.3, n_out)
  assert actual.dtype == np.int32
  np.testing.assert_array_equal(actual, expected)
