"""The deformable convolution against plain ones, and against sampling by PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import ddod_cases, seeded

from robust_compress.models.deformable import DeformableConv, bilinear, deformable_conv

GOLDEN = np.load(Path(__file__).parent / "golden" / "ddod.npz")


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def plain_conv(x, kernel):
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_untrained_it_is_a_plain_convolution():
  x = jnp.asarray(seeded.normal("x", (2, 6, 5, 3)))
  y, variables = DeformableConv(4).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, plain_conv(x, variables["params"]["kernel"]), atol=1e-6)
  assert jax.tree.map(jnp.shape, variables["params"]["conv_offset"]) == {"kernel": (3, 3, 3, 18), "bias": (18,)}


def test_whole_offsets_move_the_picture():
  x, kernel = jnp.asarray(seeded.normal("x", (1, 6, 7, 3))), jnp.asarray(seeded.normal("k", (3, 3, 3, 2)))
  offsets = jnp.tile(jnp.array([2.0, -1.0]), 9) * jnp.ones((1, 6, 7, 1))  # two rows below, one column to the left
  wide = jnp.pad(x, ((0, 0), (1, 3), (2, 1), (0, 0)))
  expected = plain_conv(wide, kernel)[:, 3:9, 1:8]
  np.testing.assert_allclose(deformable_conv(x, offsets, kernel), expected, atol=1e-5)


def test_samples_fade_at_the_edge_and_far_outside_there_is_nothing():
  x = jnp.ones((1, 3, 4, 1))
  rows = jnp.array([[0.0, 0.5, 2.25, -0.25, -1.0, 3.0, 1e9, -1e9, 1.0]])
  columns = jnp.array([[0.0, 1.5, 3.0, -0.5, 2.0, 2.0, 1.0, 1.0, np.inf]])
  np.testing.assert_allclose(bilinear(x, rows, columns)[0, :, 0], [1, 1, 0.75, 0.375, 0, 0, 0, 0, 0], atol=1e-6)
  slope = jax.grad(lambda rows: bilinear(x, rows, columns).sum())(rows)
  np.testing.assert_allclose(slope[0], [0, 0, -1, 0.5, 0, 0, 0, 0, 0], atol=1e-6)


def test_values_and_gradients_are_pytorch_s():
  given = ddod_cases.deformed()
  y, gradients = jax.vjp(jax.jit(deformable_conv), *map(jnp.asarray, given))
  np.testing.assert_allclose(y, GOLDEN["deform/y"].transpose(0, 2, 3, 1), atol=1e-5)
  direction = seeded.normal("y", GOLDEN["deform/y"].shape).transpose(0, 2, 3, 1)
  axes = {"x": (0, 2, 3, 1), "offsets": (0, 2, 3, 1), "kernel": (2, 3, 1, 0)}
  for name, found in zip(axes, gradients(jnp.asarray(direction)), strict=True):
    np.testing.assert_allclose(found, GOLDEN[f"deform/{name}"].transpose(axes[name]), atol=1e-4, err_msg=name)


def test_pictures_do_not_meet_and_bfloat16_stays():
  x, offsets, kernel = map(jnp.asarray, ddod_cases.deformed())
  together = deformable_conv(x, offsets, kernel)
  apart = jax.vmap(lambda x, offsets: deformable_conv(x[None], offsets[None], kernel)[0])(x, offsets)
  np.testing.assert_allclose(apart, together, atol=1e-5)
  half = deformable_conv(x.astype(jnp.bfloat16), offsets, kernel)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32), together, atol=0.1)
