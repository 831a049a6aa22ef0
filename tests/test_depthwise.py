"""The depthwise convolution written out for CPUs is XLA's grouped convolution, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import seeded

from robust_compress.models.depthwise import DepthwiseConv, depthwise


def by_xla(x, kernel, stride, pads):
  options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": x.shape[-1]}
  return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  ("size", "stride", "pads"),
  [(3, 1, ((1, 1), (1, 1))), (3, 2, ((1, 1), (1, 1))), (3, 2, ((0, 1), (1, 1))), (5, 2, ((2, 2), (2, 2)))],
)
def test_values_and_gradients_are_the_grouped_convolution_s(size, stride, pads, dtype):
  x, kernel = seeded.normal("x", (2, 10, 9, 6)), seeded.normal("kernel", (size, size, 1, 6))
  x, kernel = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
  shape = jax.eval_shape(lambda: by_xla(x, kernel, stride, pads)).shape
  grad = jnp.asarray(seeded.normal("grad", shape), dtype)

  def all_of(convolve):
    y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, pads), x, kernel)
    return y, *pull(grad)

  tolerance = 1e-5 if dtype == "float32" else 0.05  # XLA rounds partial sums to bfloat16, this does not
  for actual, expected in zip(jax.jit(lambda: all_of(depthwise))(), jax.jit(lambda: all_of(by_xla))(), strict=True):
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual.astype("float32"), expected.astype("float32"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("size", "stride"), [((9, 10), 1), ((9, 10), 2), ((8, 7), 2)])
def test_same_padding_is_tensorflow_s(size, stride):
  x = jnp.asarray(seeded.normal("x", (1, *size, 4)))
  module = DepthwiseConv(3, stride, "SAME", use_bias=True)
  y, variables = module.init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, by_xla(x, variables["params"]["kernel"], stride, "SAME"), atol=1e-5)
