"""Max pooling against XLA's own, values and gradients."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from robust_compress.models.pooling import max_pool


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 0))])
@pytest.mark.parametrize("side", [(9, 12), (8, 7), (3, 3)])
def test_equals_xla(side, pads):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *side, 5)).astype(np.float32)
  ours, gradient = jax.vjp(lambda x: max_pool(x, 3, 2, pads), x)
  theirs, reference = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), pads), x)
  np.testing.assert_array_equal(ours, theirs)
  g = rng.normal(size=ours.shape).astype(np.float32)
  np.testing.assert_allclose(gradient(g)[0], reference(g)[0], rtol=1e-6, atol=1e-6)


def test_equal_maxima_share_the_gradient():
  x = np.zeros((1, 3, 3, 1), np.float32)
  gradient = jax.grad(lambda x: max_pool(x, 3, 2, ((0, 0), (0, 0))).sum())(x)
  assert gradient.sum() == pytest.approx(1)
