"""The stem by blocks against the plain convolution that it stands for."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from robust_compress.models.stem import StemConv


@pytest.mark.parametrize(("size", "pad"), [(7, 3), (7, 0), (5, 2), (3, 1)])
@pytest.mark.parametrize("sides", [(16, 20), (15, 16), (9, 11)])
def test_equals_the_plain_convolution(size, pad, sides):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *sides, 3)).astype(np.float32)
  ours, plain = StemConv(5, size, pad, use_bias=True), nn.Conv(5, (size, size), 2, ((pad, pad), (pad, pad)))
  variables = plain.init(jax.random.key(0), x)
  expected = plain.apply(variables, x)
  np.testing.assert_allclose(ours.apply(variables, x), expected, atol=1e-5)

  g = rng.normal(size=expected.shape).astype(np.float32)
  gradients = [jax.grad(lambda v, m=m: (m.apply(v, x) * g).sum())(variables) for m in (ours, plain)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)
