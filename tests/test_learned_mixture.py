"""Symbols by questions about their mixtures: they come back, at the cost that the mixtures say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robust_compress.codecs.learned import coder, mixture, tables
from robust_compress.codecs.learned.coder import Decoder, Encoder
from robust_compress.codecs.learned.mixture import Mixture
from robust_compress.codecs.learned.tables import MAX_SYMBOL
from robust_compress.types import CodecError


def parameters(n, n_components, spread, rng):
  """(weights, means, scales) float32[n c], of scales from tiny to 100 times `spread`."""
  weights = rng.dirichlet(np.full(n_components, 0.5), n)
  means = rng.normal(size=(n, n_components)) * spread
  scales = np.exp(rng.uniform(np.log(0.01), np.log(100 * spread), (n, n_components)))
  return tuple(x.astype(np.float32) for x in (weights, means, scales))


def draws(weights, means, scales, rng):
  component = (rng.random(len(weights))[:, None] > np.cumsum(weights, axis=1)[:, :-1]).sum(axis=1)
  where = np.arange(len(weights)), component
  return coder.to_symbols(means[where] + rng.normal(size=len(weights)) * np.maximum(scales[where], 0.11))


def bits_of(symbols, mix):
  """-Σ log2 p."""
  offset, everyone = symbols - mix.likeliest, slice(None)
  side, distance = np.where(offset < 0, -1, 1), np.abs(offset)
  return -np.log2(mix.mass(everyone, side, distance) - mix.mass(everyone, side, distance + 1)).sum()


def string_of(symbols, mix):
  encoder = Encoder()
  mixture.put(encoder, symbols, mix)
  return encoder.string()


@given(
  n=st.integers(0, 60),
  n_components=st.integers(1, 4),
  spread=st.sampled_from([0.02, 1.0, 300.0]),
  farthest=st.integers(0, MAX_SYMBOL),
  seed=st.integers(0, 2**32 - 1),
)
def test_portions_come_back(n, n_components, spread, farthest, seed):
  """Of symbols that were likely and of any others, with symbols of tables between them."""
  rng = np.random.default_rng(seed)
  mixes = [Mixture(*parameters(n, n_components, spread, rng)) for _ in range(2)]
  symbols = rng.integers(-farthest, farthest, (2, n), endpoint=True).astype(np.int32)
  encoder = Encoder()
  mixture.put(encoder, symbols[0], mixes[0])
  encoder.put(symbols[0], np.zeros(n, int), tables.gaussian())
  mixture.put(encoder, symbols[1], mixes[1])
  decoder = Decoder(encoder.string())
  np.testing.assert_array_equal(mixture.get(decoder, mixes[0]), symbols[0])
  np.testing.assert_array_equal(decoder.get(np.zeros(n, int), tables.gaussian()), symbols[0])
  np.testing.assert_array_equal(mixture.get(decoder, mixes[1]), symbols[1])


@pytest.mark.parametrize("spread", [0.02, 0.3, 20.0])
def test_coded_size_is_that_of_the_mixtures(spread):
  rng = np.random.default_rng(0)
  given = parameters(30_000, 3, spread, rng)
  symbols, mix = draws(*given, rng), Mixture(*given)
  ideal = bits_of(symbols, mix) / 8
  assert abs(len(string_of(symbols, mix)) - ideal) <= 1e-3 * ideal + 4


def test_mass_is_that_of_the_definition():
  rng = np.random.default_rng(0)
  weights, means, scales = parameters(500, 3, 1.0, rng)
  symbols = draws(weights, means, scales, rng)
  scales, edges = np.maximum(scales, 0.11), symbols[:, None] + np.array([[-0.5], [0.5]])[..., None]
  low, high = (weights * stats.norm.cdf((edges - means) / scales)).sum(axis=-1)
  assert bits_of(symbols, Mixture(weights, means, scales)) == pytest.approx(-np.log2(high - low).sum(), rel=1e-4)


def test_both_sides_and_the_likeliest_have_all_mass():
  mix = Mixture(*parameters(200, 3, 2.0, np.random.default_rng(0)))
  everyone = slice(None)
  np.testing.assert_allclose(mix.mass(everyone, 1, 0) + mix.mass(everyone, -1, 1), 1, rtol=1e-12)
  np.testing.assert_allclose(mix.mass(everyone, 1, 1) + mix.mass(everyone, -1, 0), 1, rtol=1e-12)


@pytest.mark.parametrize("split", [[1.0], [1.0, 0.0], [0.25, 0.75]])
def test_one_component_costs_what_the_gaussian_table_costs(split):
  """Whether it stands alone, beside one without weight, or twice."""
  rng = np.random.default_rng(0)
  scales = tables.SCALES[rng.integers(0, 40, 20_000)]
  symbols = coder.to_symbols(rng.normal(size=len(scales)) * scales)
  rows = np.ones((len(scales), 1), np.float32) * np.array(split, np.float32)
  n_bytes = len(string_of(symbols, Mixture(rows, 0 * rows, scales[:, None] + 0 * rows)))
  encoder = Encoder()
  encoder.put(symbols, tables.gaussian_indexes(scales), tables.gaussian())
  assert n_bytes == pytest.approx(len(encoder.string()), rel=2e-3)


def test_hills_far_apart_share_the_symbols():
  rng = np.random.default_rng(0)
  given = [np.tile(np.array(x, np.float32), (4000, 1)) for x in ([0.5, 0.5], [-3000.4, 3000.4], [0.5, 0.5])]
  symbols, mix = draws(*given, rng), Mixture(*given)
  string = string_of(symbols, mix)
  assert len(string) == pytest.approx(bits_of(symbols, mix) / 8, rel=1e-2)
  np.testing.assert_array_equal(mixture.get(Decoder(string), mix), symbols)


def test_damaged_strings_are_errors_or_other_symbols():
  rng = np.random.default_rng(0)
  given = parameters(100, 3, 1.0, rng)
  symbols, mix = 3 * draws(*given, rng), Mixture(*given)
  string, outcomes = string_of(symbols, mix), set()
  for _ in range(1000):
    damaged = bytearray(string)
    for at in rng.integers(0, len(string), rng.integers(1, 4)):
      damaged[at] = rng.integers(256)
    del damaged[rng.integers(0, 2 * len(string)) :]
    try:
      decoded = mixture.get(Decoder(bytes(damaged)), mix)
    except CodecError as error:
      outcomes.add(str(error))
      continue
    outcomes.add("symbols")
    assert decoded.shape == symbols.shape
    assert np.abs(decoded).max() <= MAX_SYMBOL
  assert "symbols" in outcomes
  assert all("damaged" in outcome for outcome in outcomes - {"symbols"})


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_parameters_that_no_mixture_has_are_errors(part, value):
  given = [np.ones((5, 3), np.float32) for _ in range(3)]
  given[part][2, 1] = value
  if (part, value) != (1, -1.0):
    with pytest.raises(CodecError, match="that no mixture has"):
      Mixture(*given)


def test_weights_of_nothing_are_an_error():
  with pytest.raises(CodecError, match="that no mixture has"):
    Mixture(np.zeros((1, 3)), np.zeros((1, 3)), np.ones((1, 3)))


@pytest.mark.parametrize(
  ("symbols", "message"),
  [
    (np.zeros(4, np.int32), "cannot code [4] symbols by 5 mixtures"),
    (np.zeros(5), "cannot code float64[5]"),
    (np.full(5, MAX_SYMBOL + 1), "they go to ±4194303"),
  ],
)
def test_what_cannot_be_coded_is_an_error(symbols, message):
  with pytest.raises(CodecError, match=re.escape(message)):
    mixture.put(Encoder(), symbols, Mixture(*(np.ones((5, 3)) for _ in range(3))))
