"""RoIAlign against its definition, point by point; torchvision's numbers are in test_faster_rcnn.py."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_compress.models import roi_align as roi

STRIDES = (4, 8, 16, 32)
BOXES = np.array(
  [
    [[0, 0, 128, 96], [3.3, 7.1, 31, 22], [120, 90, 128, 96], [40, 10, 40.5, 10.2], [127.9, 95.9, 128, 96]],
    [[5, 5, 100, 60], [-9, -9, 20, 20], [0, 0, 0, 0], [60, 0, 70, 96], [1, 2, 30, 4]],
  ],
  np.float32,
)


def some_maps(height, width, channels=3, n=2):
  rng = np.random.default_rng(0)
  return [rng.normal(size=(n, height // s, width // s, channels)).astype(np.float32) for s in STRIDES]


def extents_of(maps):
  return jnp.asarray([[x.shape[1:3] for x in maps]] * len(maps[0]), jnp.int32)


def bilinear(x, v, u):
  """The value of x[h w c] at row v and column u, between four places; nothing more than a place beyond its edges."""
  height, width = x.shape[:2]
  if v < -1 or v > height or u < -1 or u > width:
    return np.zeros(x.shape[2])
  v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
  i, j = int(v), int(u)
  k, l = min(i + 1, height - 1), min(j + 1, width - 1)
  a, b = v - i, u - j
  return (1 - a) * ((1 - b) * x[i, j] + b * x[i, l]) + a * ((1 - b) * x[k, j] + b * x[k, l])


def plain(maps, boxes, extents, size, samples):
  """Every bin the mean over its points, each region from the map of its level."""
  found = np.zeros((*boxes.shape[:2], size, size, maps[0].shape[-1]))
  level = np.asarray(roi.levels(boxes, STRIDES))
  for b, n, p, q in np.ndindex(found.shape[:4]):
    at = level[b, n]
    x = maps[at][b, : extents[b, at, 0], : extents[b, at, 1]]
    x0, y0, x1, y1 = boxes[b, n].astype(float) / STRIDES[at]
    high, wide = max(y1 - y0, 1) / size, max(x1 - x0, 1) / size
    steps = (np.arange(samples) + 0.5) / samples
    found[b, n, p, q] = np.mean(
      [bilinear(x, y0 + (p + s) * high, x0 + (q + t) * wide) for s in steps for t in steps], 0
    )
  return found


@pytest.mark.parametrize(("size", "samples"), [(7, 2), (3, 1)])
def test_regions_are_those_of_the_definition(size, samples, monkeypatch):
  monkeypatch.setattr(roi, "CHUNK", 4)  # ten regions: a chunk is not full
  maps = some_maps(96, 128)
  extents = np.array(extents_of(maps))
  extents[1] = [[20, 30], [10, 15], [5, 8], [3, 4]]  # a smaller picture within the same maps
  actual = jax.jit(lambda *a: roi.roi_align(*a, STRIDES, jnp.asarray(extents), size, samples))(maps, BOXES)
  np.testing.assert_allclose(actual, plain(maps, BOXES, extents, size, samples), atol=1e-5)


def test_a_region_is_read_from_the_map_of_its_size():
  sides = np.array([1, 111, 112, 223, 224, 448, 5000], np.float32)
  boxes = np.stack([0 * sides, 0 * sides, sides, sides], -1)
  np.testing.assert_array_equal(roi.levels(boxes, STRIDES), [0, 0, 1, 1, 2, 3, 3])
  np.testing.assert_array_equal(roi.levels(boxes, (32,)), 0)


def test_the_gradient_is_that_of_the_sums(monkeypatch):
  """It is linear in the maps, so that the gradient of a product with fixed numbers is found from single places."""
  monkeypatch.setattr(roi, "CHUNK", 4)
  maps, extents = some_maps(96, 128, 1), extents_of(some_maps(96, 128, 1))
  fixed = np.random.default_rng(1).normal(size=(2, 5, 3, 3, 1)).astype(np.float32)

  def product(maps):
    return (roi.roi_align(maps, jnp.asarray(BOXES), STRIDES, extents, 3) * fixed).sum()

  gradient = jax.grad(product)(maps)
  direction = some_maps(96, 128, 1)
  slope = sum(float(np.vdot(g, d)) for g, d in zip(gradient, direction, strict=True))
  np.testing.assert_allclose(slope, product(direction), rtol=1e-4)
  place = [np.zeros_like(x) for x in maps]
  place[1][0, 3, 2, 0] = 1
  np.testing.assert_allclose(gradient[1][0, 3, 2, 0], product(place), atol=1e-6)


def test_half_precision_maps_are_summed_in_single():
  maps = [jnp.asarray(x, jnp.bfloat16) for x in some_maps(96, 128)]
  extents = extents_of(maps)
  actual = roi.roi_align(maps, jnp.asarray(BOXES), STRIDES, extents)
  expected = roi.roi_align([x.astype(jnp.float32) for x in maps], jnp.asarray(BOXES), STRIDES, extents)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  gradient = jax.grad(lambda maps: roi.roi_align(maps, jnp.asarray(BOXES), STRIDES, extents).sum())(maps)
  assert {x.dtype for x in gradient} == {jnp.dtype(jnp.bfloat16)}
