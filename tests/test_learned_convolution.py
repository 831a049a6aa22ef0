"""Convolutions of the learned codecs: each way to compute one is its definition, and so are its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import seeded
from test_winograd import n_convolutions

from robust_compress import winograd
from robust_compress.codecs.learned.networks.convolution import convolve, transpose
from robust_compress.codecs.learned.networks.layers import Deconv


@pytest.fixture(params=["as XLA does it", "filtered"])
def way(request, monkeypatch):
  """Small arrays stand for large ones."""
  if request.param == "filtered":
    monkeypatch.setattr(winograd, "_LARGE", 1)
    monkeypatch.setattr(winograd, "_WIDE", 1)
  return request.param


def case(height, width, size, n):
  return seeded.normal("x", (2, height, width, 5)), seeded.normal("kernel", (size, size, 5, n))


def defined(x, kernel, stride):
  """In float64."""
  size, (b, h, w, _) = len(kernel), x.shape
  padded = np.pad(np.float64(x), ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
  exact = np.zeros((b, h // stride, w // stride, kernel.shape[-1]))
  for u, v in np.ndindex(size, size):
    exact += padded[:, u : u + h : stride, v : v + w : stride] @ kernel[u, v]
  return exact


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 6), (14, 4), (24, 10)])  # full fours of rows, and not
def test_a_convolution_is_its_definition(way, size, stride, height, width):
  x, kernel = case(height, width, size, 7)
  np.testing.assert_allclose(convolve(x, kernel, stride), defined(x, kernel, stride), atol=1e-4)
  is_filtered = way == "filtered" and (size, stride) in ((3, 1), (5, 2))
  assert n_convolutions(lambda x: convolve(x, kernel, stride), x) == (6 if is_filtered else 1)


@pytest.mark.parametrize(("n", "n_at_once"), [(3, 1), (16, 4)])  # all phases at once, and one by one
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 6), (7, 3)])
def test_a_transposed_convolution_is_its_definition(way, n, n_at_once, height, width):
  (x, kernel), bias = case(height, width, 5, n), seeded.normal("bias", (n,))
  exact = np.zeros((2, 2 * height + 4, 2 * width + 4, n))
  for p, q, u, v in np.ndindex(height, width, 5, 5):
    exact[:, 2 * p + u, 2 * q + v] += np.float64(x[:, p, q]) @ kernel[u, v]
  found = Deconv(n).apply({"params": {"transposed": kernel, "bias": bias}}, x)
  np.testing.assert_allclose(found, exact[:, 2:-2, 2:-2] + bias, atol=1e-4)
  is_filtered = way == "filtered" and n_at_once == 4
  assert n_convolutions(lambda x: transpose(x, kernel), x) == n_at_once * (6 if is_filtered else 1)


@pytest.mark.parametrize("function", [convolve, lambda x, kernel: convolve(x, kernel, 2), transpose])
def test_gradients_of_filtered_convolutions_are_those_of_plain_ones(function, monkeypatch):
  x, kernel = case(8, 6, 3 if function is convolve else 5, 16)
  weights = seeded.normal("weights", function(x, kernel).shape)

  def gradients():
    return jax.jit(jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) * weights), argnums=(0, 1)))(x, kernel)

  plain = gradients()
  monkeypatch.setattr(winograd, "_LARGE", 1)
  monkeypatch.setattr(winograd, "_WIDE", 1)
  for found, expected in zip(gradients(), plain, strict=True):
    assert not np.array_equal(found, expected)  # else the same way was taken twice
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
