"""Symbols by integer tables: they come back, cost what their probabilities say, and no bytes lead astray for long."""

import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robust_compress.codecs.learned import coder, tables
from robust_compress.codecs.learned.coder import Decoder, Encoder
from robust_compress.codecs.learned.tables import MAX_SYMBOL, TOTAL, Tables
from robust_compress.types import CodecError

GAUSSIAN = tables.gaussian()


def symbols_of(scales, seed=0):
  return coder.to_symbols(np.random.default_rng(seed).normal(size=len(scales)) * scales)


def message_of(n_rows, n_symbols, sharpness, farthest, seed):
  """(symbols, indexes, tables): rows from flat to next to certain; symbols in them, by them and far from them."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(2, 10, n_rows)
  cdfs = tables.quantise(np.exp(-sharpness * rng.random((n_rows, 9))), lengths)
  table = Tables(cdfs, lengths, rng.integers(-MAX_SYMBOL, MAX_SYMBOL, n_rows, endpoint=True))
  indexes = rng.integers(0, n_rows, n_symbols)
  bins = rng.integers(-3, 12, n_symbols) * rng.choice([1, 1, 1, farthest], n_symbols)
  symbols = np.clip(table.offsets[indexes] + bins, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
  return symbols, indexes, table


def encode(symbols, indexes, table):
  encoder = Encoder()
  encoder.put(symbols, indexes, table)
  return encoder.string()


def decode(string, indexes, table):
  return Decoder(string).get(indexes, table)


def bits_of(symbols, indexes, table):
  """-Σ log2 p, without what follows an escape."""
  escape, bins = table.lengths[indexes] - 1, symbols - table.offsets[indexes]
  bins = np.where((bins < 0) | (bins > escape), escape, bins)
  return -np.log2((table.cdfs[indexes, bins + 1] - table.cdfs[indexes, bins]) / TOTAL).sum()


seeds = st.integers(0, 2**32 - 1)
messages = st.builds(
  message_of, st.integers(1, 6), st.integers(0, 60), st.floats(0, 40), st.integers(1, MAX_SYMBOL), seeds
)


# --------------------------------------------------------------------------------------------- round trips


@given(messages)
def test_decode_inverts_encode(message):
  symbols, indexes, table = message
  np.testing.assert_array_equal(decode(encode(*message), indexes, table), symbols)


@given(st.lists(messages, max_size=4), seeds)
def test_portions_come_back_one_by_one(portions, seed):
  """With bits between them, which have no table."""
  rng = np.random.default_rng(seed)
  ones = rng.integers(1, TOTAL, (len(portions), 9))
  bits = rng.random((len(portions), 9)) < ones / TOTAL
  encoder = Encoder()
  for message, *coins in zip(portions, bits, ones):
    encoder.put(*message)
    encoder.put_bits(*coins)
  decoder = Decoder(encoder.string())
  for (symbols, indexes, table), some_bits, some_ones in zip(portions, bits, ones):
    np.testing.assert_array_equal(decoder.get(indexes, table), symbols)
    np.testing.assert_array_equal(decoder.get_bits(some_ones), some_bits)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_the_shortest_string_decodes(n):
  """Its end is cut to the byte, whatever number the coder stopped at."""
  for seed in range(200):
    scales = tables.SCALES[np.random.default_rng(seed).integers(0, 64, n)]
    symbols, indexes = symbols_of(scales, seed), tables.gaussian_indexes(scales)
    string = encode(symbols, indexes, GAUSSIAN)
    assert len(string) <= bits_of(symbols, indexes, GAUSSIAN) / 8 + 2
    np.testing.assert_array_equal(decode(string, indexes, GAUSSIAN), symbols)


@pytest.mark.parametrize("index", [0, 63])
@pytest.mark.parametrize("symbol", [MAX_SYMBOL, -MAX_SYMBOL, 1567, -1567, 2, -2])
def test_symbols_far_outside_their_row_come_back(index, symbol):
  symbols, indexes = np.array([symbol, 0, symbol], np.int32), np.full(3, index)
  string = encode(symbols, indexes, GAUSSIAN)
  assert len(string) <= 3 * (16 + 4 + 24) / 8 + 2
  np.testing.assert_array_equal(decode(string, indexes, GAUSSIAN), symbols)


def test_nothing_is_no_byte():
  nothing = np.zeros(0, np.int32)
  assert encode(nothing, nothing, GAUSSIAN) == b""
  assert decode(b"", nothing, GAUSSIAN).shape == (0,)


def test_a_row_of_65536_bins_and_a_row_next_to_certain():
  flat = Tables(np.arange(TOTAL + 1)[None], np.array([TOTAL]), np.array([-7]))
  certain = Tables(np.array([[0, TOTAL - 1, TOTAL]]), np.array([2]), np.array([5]))
  symbols, indexes = np.random.default_rng(0).integers(-7, TOTAL - 8, 999).astype(np.int32), np.zeros(999, int)
  assert len(encode(symbols, indexes, flat)) <= 2 * 999 + 2
  np.testing.assert_array_equal(decode(encode(symbols, indexes, flat), indexes, flat), symbols)
  assert len(encode(np.full(9999, 5), np.zeros(9999, int), certain)) <= 1


# ------------------------------------------------------------------------------------------ size, sameness


@pytest.mark.parametrize("spread", [(0.11, 0.3), (0.11, 5.0), (1.0, 60.0)])
def test_coded_size_is_that_of_the_probabilities(spread):
  """Within 0.1 % and a few bytes, of the tables' counts and of Gaussians at the tables' scales."""
  scales = np.exp(np.random.default_rng(1).uniform(*np.log(spread), 200_000)).astype(np.float32)
  indexes = tables.gaussian_indexes(scales)
  scales = tables.SCALES[indexes].astype(np.float64)
  symbols = symbols_of(scales)
  n_bytes = len(encode(symbols, indexes, GAUSSIAN))
  mass = stats.norm.cdf((0.5 - np.abs(symbols)) / scales) - stats.norm.cdf((-0.5 - np.abs(symbols)) / scales)
  for ideal in (bits_of(symbols, indexes, GAUSSIAN) / 8, -np.log2(mass).sum() / 8):
    assert abs(n_bytes - ideal) <= 1e-3 * ideal + 6


def test_bytes_are_a_matter_of_the_symbols_alone():
  """Golden: another machine, another version must write and read the same."""
  scales = tables.SCALES[np.arange(640) % 64]
  symbols = (np.arange(640) * 7919 % 2003 - 1001) * scales.astype(np.float64) / 400
  message = coder.to_symbols(symbols), tables.gaussian_indexes(scales), GAUSSIAN
  string = encode(*message)
  assert (len(string), string[:8].hex(), string[-8:].hex()) == (409, "e984504695fdad00", "400e4cc2ffea8106")
  rows = b"".join(part.astype("<i4").tobytes() for part in (GAUSSIAN.cdfs, GAUSSIAN.lengths, GAUSSIAN.offsets))
  assert zlib.crc32(rows) == 1174470749


# ------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("seed", range(4))
def test_damaged_strings_are_errors_or_other_symbols(seed):
  """By the thousand: no crash, no endless run, never more symbols than were asked for."""
  rng = np.random.default_rng(seed)
  scales = np.exp(rng.normal(-0.5, 1.5, 500)).astype(np.float32)
  indexes = tables.gaussian_indexes(scales)
  symbols = symbols_of(4 * scales, seed)  # so that many are outside their row
  string = encode(symbols, indexes, GAUSSIAN)
  n_errors = n_wrong = 0
  for _ in range(1500):
    damaged = bytearray(string)
    for at in rng.integers(0, len(string), rng.integers(1, 4)):
      damaged[at] = rng.integers(256)
    del damaged[rng.integers(0, 2 * len(string)) :]
    try:
      decoded = decode(bytes(damaged), indexes, GAUSSIAN)
    except CodecError:
      n_errors += 1
      continue
    assert decoded.shape == symbols.shape
    assert np.abs(decoded).max() <= MAX_SYMBOL
    n_wrong += bool((decoded != symbols).any())
  assert n_errors > 0
  assert n_wrong > 0


@given(st.binary(max_size=100), messages)
def test_any_bytes_are_an_error_or_symbols(string, message):
  _, indexes, table = message
  try:
    decoded = decode(string, indexes, table)
  except CodecError:
    return
  assert decoded.shape == indexes.shape


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
  ("symbols", "indexes", "message"),
  [
    (np.zeros(3, np.int32), np.zeros(2, np.int32), "3 symbols with 2 indexes"),
    (np.zeros(3), np.zeros(3, np.int32), "cannot code float64[3]"),
    (np.zeros((3, 1), np.int32), np.zeros(3, np.int32), "cannot code int32[3, 1]"),
    (np.full(3, MAX_SYMBOL + 1), np.zeros(3, np.int32), "they go to ±4194303"),
    (np.zeros(3, np.int32), np.zeros(3), "indexes are float64[3]"),
    (np.zeros(3, np.int32), np.array([0, 64, 0]), "indexes in [0, 64] where tables have 64 rows"),
    (np.zeros(3, np.int32), np.array([0, -1, 0]), "indexes in [-1, 0] where tables have 64 rows"),
  ],
)
def test_what_cannot_be_coded_is_an_error(symbols, indexes, message):
  with pytest.raises(CodecError, match=re.escape(message)):
    encode(symbols, indexes, GAUSSIAN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 5e6])
def test_values_that_are_no_symbols_are_errors(value):
  with pytest.raises(CodecError, match="not finite or over 4194303"):
    coder.to_symbols(np.array([0, value], np.float32))
  assert coder.to_symbols(np.array([0.5, 1.5, -2.6], np.float32)).tolist() == [0, 2, -3]


@pytest.mark.parametrize("ones", [[0], [TOTAL], [0.5]])
def test_bits_need_a_chance_each_way(ones):
  with pytest.raises(CodecError, match="probabilities of bits"):
    Encoder().put_bits(np.ones(1, bool), np.array(ones))


# ------------------------------------------------------------------------------------------------- tables


@given(st.integers(1, 40), seeds, st.floats(0.01, 30))
def test_counts_follow_probabilities(k, seed, sharpness):
  pmf = np.exp(-sharpness * np.random.default_rng(seed).random((3, k)))
  counts = np.diff(tables.quantise(pmf), axis=1)
  expected = pmf / pmf.sum(axis=1, keepdims=True) * TOTAL
  assert (counts.sum(axis=1) == TOTAL).all()
  assert counts.min() >= 1
  assert (np.abs(counts - expected) <= 1.01 + expected * 2 * k / TOTAL).all()


def test_gaussian_rows_have_the_widths_of_compressai():
  assert GAUSSIAN.cdfs.shape == (64, 3133)
  assert (GAUSSIAN.lengths[0], GAUSSIAN.lengths[-1]) == (4, 3132)
  assert (GAUSSIAN.offsets == -(GAUSSIAN.lengths - 2) // 2).all()


def test_gaussian_rows_are_symmetrical():
  for row, length in zip(np.diff(GAUSSIAN.cdfs, axis=1), GAUSSIAN.lengths):
    assert np.abs(row[: length - 1] - row[: length - 1][::-1]).max() <= 1


@given(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=1))
def test_a_scale_takes_the_row_of_the_next_scale_above(scales):
  known = tables.SCALES
  scales = np.concatenate([np.array(scales, np.float32), known, np.nextafter(known, 0), np.nextafter(known, 2 * known)])
  assert (tables.gaussian_indexes(scales) == (tables.SCALES[:-1] < scales[:, None]).sum(axis=1)).all()


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_none_is_an_error(scale):
  with pytest.raises(CodecError, match="not positive or not finite"):
    tables.gaussian_indexes(np.array([1, scale], np.float32))


def test_rows_of_a_factorized_prior():
  pmf = np.array([[0.5, 0.25, 0.2, 9], [0.1, 0.8, 9, 9], [0.25, 0.25, 0.25, 0.25]])
  table = tables.from_pmf(pmf, np.array([3, 2, 4]), np.array([-1, 5, 0]))
  counts = np.diff(table.cdfs, axis=1)
  expected = [[0.5, 0.25, 0.2, 0.05, 0], [0.1, 0.8, 0.1, 0, 0], [0.25, 0.25, 0.25, 0.25, 0]]
  np.testing.assert_allclose(counts / TOTAL, expected, atol=5 / TOTAL)
  assert counts[2, 4] == 1  # an escape without mass can be coded all the same
  assert table.lengths.tolist() == [4, 3, 5]


@pytest.mark.parametrize(
  ("cdf", "length", "offset", "message"),
  [
    ([0, 5, 5, TOTAL], 3, 0, "row 1 of 2"),
    ([0, 9, 5, TOTAL], 3, 0, "row 1 of 2"),
    ([0, 5, 9, TOTAL - 1], 3, 0, "row 1 of 2"),
    ([1, 5, 9, TOTAL], 3, 0, "row 1 of 2"),
    ([0, 5, 9, TOTAL], 2, 0, "row 1 of 2 is not one of 2 counts"),
    ([0, TOTAL, TOTAL, TOTAL], 1, 0, "row 1 of 2"),
    ([0, 5, 9, TOTAL], 4, 0, "row 1 of 2"),
    ([0, 5, 9, TOTAL], 3, MAX_SYMBOL + 1, "offset of at most 4194303"),
    ([0, 5, 9.0, TOTAL], 3, 0, "cdfs is float64; expected whole numbers"),
  ],
)
def test_tables_that_are_none_are_errors(cdf, length, offset, message):
  with pytest.raises(CodecError, match=message):
    Tables(np.array([[0, 1, 2, TOTAL], cdf]), np.array([3, length]), np.array([0, offset]))


def test_tables_of_other_shapes_are_errors():
  with pytest.raises(CodecError, match=re.escape("cdfs(1, 4), lengths(2,), offsets(1,)")):
    Tables(np.array([[0, 1, 2, TOTAL]]), np.array([3, 3]), np.array([0]))


@pytest.mark.parametrize("pmf", [[0.0, 0.0], [-0.1, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_probabilities_that_are_none_are_errors(pmf):
  with pytest.raises(CodecError, match="tables: probabilities"):
    tables.quantise(np.array([pmf]))
