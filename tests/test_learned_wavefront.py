"""The order of coding under context: every position once, after all that it knows; numbers are those of one pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress.codecs.learned import programs, wavefront
from robust_compress.codecs.learned.networks.context import NEIGHBOURS
from robust_compress.codecs.learned.networks.gaussian import Gaussian
from robust_compress.codecs.learned.wavefront import SIZES
from tests.small_networks import small_weights

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes)
def test_every_position_comes_once_and_after_its_neighbours(size):
  height, width = size
  order = wavefront.order(height, width)
  assert sorted(order.positions.tolist()) == list(range(height * width))
  portion = np.empty(height * width, int)
  for number, (start, end, _) in enumerate(order.portions):
    portion[order.positions[start:end]] = number
  portion = portion.reshape(size)
  for i, j in NEIGHBOURS:
    here = portion[max(-i, 0) :, max(-j, 0) : width - max(j, 0)]
    there = portion[: height - max(-i, 0), max(j, 0) : width - max(-j, 0)]
    assert (there < here).all()


@given(sizes)
def test_portions_are_the_fronts_in_as_few_calls_as_may_be(size):
  height, width = size
  portions = wavefront.order(height, width).portions
  assert [start for start, _, _ in portions] == [0, *(end for _, end, _ in portions[:-1])]
  assert all(0 < end - start <= size and size in SIZES for start, end, size in portions)
  assert len(portions) == len({j + 3 * i for i, j in np.ndindex(size)})  # no front here is longer than a call


def test_a_picture_of_768x512_takes_141_fronts():
  portions = wavefront.order(32, 48).portions
  assert len(portions) == 141
  assert max(end - start for start, end, _ in portions) == 16


def test_a_long_front_goes_in_several_calls():
  portions = wavefront.order(70, 300).portions
  lengths = [end - start for start, end, _ in portions]
  assert sum(lengths) == 70 * 300
  assert max(lengths) == SIZES[-1]


def test_neighbours_are_those_of_the_latent_with_zeros_outside():
  """ŷ is decided to be the place of each position: what a position then sees tells where it looked."""
  height, width = 7, 11
  seen = {}
  numbers = np.arange(1, height * width + 1, dtype=np.float32)

  def foretell(begun, neighbours):
    seen.update({int(number): row for number, row in zip(begun[:, 0], neighbours[:, :, 0]) if number})
    return Gaussian(begun, begun)

  begun = numbers.reshape(height, width, 1)
  y_hat = wavefront.walk(foretell, begun, lambda _, prior: prior.means, m=1)
  np.testing.assert_array_equal(y_hat, begun)
  padded = np.pad(begun[..., 0], 2)
  for i, j in np.ndindex(height, width):
    expected = [padded[i + 2 + row, j + 2 + column] for row, column in NEIGHBOURS]
    np.testing.assert_array_equal(seen[i * width + j + 1], expected)


@pytest.mark.parametrize("name", ["mbt2018", "cheng2020-gmm"])
def test_step_by_step_is_the_network_in_one_pass(name):
  """Given the ŷ that came out, the masked convolution over all of it foretells what the steps did."""
  network = programs.of_file(name, small_weights(name), 0)
  rng = np.random.default_rng(0)
  features = rng.normal(size=(5, 9, 2 * network.loaded.m)).astype(np.float32)
  module, variables = network._module, network.loaded.variables
  begun = np.asarray(module.apply(variables, features, method="begun"))
  met = []

  def decide(which, prior):
    met.append(prior)
    return rng.normal(size=(which.stop - which.start, network.loaded.m)).astype(np.float32)

  y_hat = wavefront.walk(network.foretell, begun, decide, network.loaded.m)
  context = module.apply(variables, y_hat[None], method="context")
  whole = module.apply(variables, features[None], context, method="prior")
  positions = wavefront.order(5, 9).positions
  for parts, expected in zip(zip(*met), whole):
    found = np.concatenate(parts)
    expected = np.asarray(expected)[0].reshape(45, *found.shape[1:])[positions]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
