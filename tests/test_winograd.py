"""Winograd's filtering: its matrices, where it is used, and that a network's layer is nn.Conv whichever way it goes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import seeded

from robust_compress import winograd
from robust_compress.models.layers import Conv


def n_convolutions(function, *arguments):
  return jax.jit(function).lower(*arguments).as_text().count("stablehlo.convolution")


def chosen(x, kernel):
  return winograd.where_it_pays(winograd.convolve, plain, x, kernel)


def plain(x, kernel):
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=winograd.LAYOUT)


def test_half_precision_and_small_arrays_are_left_as_they_are():
  """Filtering multiplies by up to 8 and takes differences: of bfloat16, nothing would be left."""
  large, small = (jnp.ones((1, size, size, 64)) for size in (64, 60))
  kernel = jnp.ones((3, 3, 64, 64))
  assert n_convolutions(chosen, large, kernel) == 6
  assert n_convolutions(chosen, small, kernel) == 1
  assert n_convolutions(chosen, large.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)) == 1
  assert n_convolutions(chosen, large, kernel[..., :32]) == 1


def test_the_three_matrices_make_a_convolution():
  """Summed over the six, every product of a tap and a row lands where a convolution has it, and nowhere else."""
  data, taps, sums = (np.array(matrix, np.float64) for matrix in (winograd._DATA, winograd._TAPS, winograd._SUMS))
  made = np.einsum("op,pt,pd->otd", sums, taps, data)
  exact = np.array([[[d == o + t for d in range(6)] for t in range(3)] for o in range(4)])
  np.testing.assert_allclose(made, exact, atol=1e-15)


@pytest.mark.parametrize(
  ("size", "options", "n"),
  [
    (3, {"padding": 1}, 6),
    (3, {"padding": "SAME"}, 1),
    (3, {"padding": 1, "use_bias": False}, 6),
    (3, {"padding": 0}, 1),
    (3, {"padding": 1, "strides": 2}, 1),
    (3, {"padding": 2, "kernel_dilation": 2}, 1),
    (3, {"padding": 1, "input_dilation": 2}, 1),
    (3, {"padding": 1, "feature_group_count": 2}, 1),
    (1, {"padding": 0}, 1),
    (5, {"padding": 2}, 1),
  ],
)
def test_a_layer_is_a_convolution_whichever_way_it_goes(size, options, n, monkeypatch):
  x = seeded.normal("x", (2, 7, 6, 4))
  theirs, ours = (layer(6, (size, size), **options) for layer in (nn.Conv, Conv))
  variables = theirs.init(jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
  monkeypatch.setattr(winograd, "_LARGE", 1)
  monkeypatch.setattr(winograd, "_WIDE", 1)
  np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5)
  assert n_convolutions(ours.apply, variables, x) == n
