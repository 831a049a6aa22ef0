"""TensorFlow Compression's coder gives the symbols of the default one; where it is not, it says how to get it."""

import numpy as np
import pytest

from robust_compress.codecs.learned import container, mixture, tables, tfc
from robust_compress.codecs.learned.coder import to_symbols
from robust_compress.codecs.learned.coders import CODERS, load_coder
from robust_compress.codecs.learned.mixture import Mixture
from robust_compress.types import CodecError, SpecError

GAUSSIAN = tables.gaussian()


def has_tfc():
  try:
    return tfc.python().is_file()
  except CodecError:
    return False


needs_tfc = pytest.mark.skipif(not has_tfc(), reason="make tfc")


def message(n, seed=0, spread=1.0):
  rng = np.random.default_rng(seed)
  scales = np.exp(rng.normal(-0.5, 1.5, n)).astype(np.float32)
  return to_symbols(rng.normal(size=n) * scales * spread), tables.gaussian_indexes(scales)


def test_every_coder_has_a_number_in_blobs():
  assert tuple(CODERS) == container.CODERS
  with pytest.raises(SpecError, match="no coder 'tcf'; did you mean 'tfc'"):
    load_coder("tcf")


def test_without_its_environment_the_error_says_how_to_get_it(monkeypatch, tmp_path):
  monkeypatch.setenv(tfc.PYTHON_VARIABLE, str(tmp_path / "python"))
  monkeypatch.setattr(tfc._WORKER, "_process", None)
  encoder = tfc.Encoder()
  encoder.put(*message(5), GAUSSIAN)
  with pytest.raises(CodecError, match="`make tfc` builds it, and ROBUST_COMPRESS_TFC names"):
    encoder.string()


def test_a_string_is_of_one_set_of_tables_or_of_bits():
  encoder = tfc.Encoder()
  encoder.put(*message(5), GAUSSIAN)
  with pytest.raises(CodecError, match="one set of tables or of bits"):
    encoder.put_bits(np.ones(1, bool), np.array([1]))


def test_an_environment_that_is_broken_is_told(monkeypatch, tmp_path):
  python = tmp_path / "python"
  python.write_text("#!/bin/sh\nexit 3\n")
  python.chmod(0o755)
  monkeypatch.setenv(tfc.PYTHON_VARIABLE, str(python))
  monkeypatch.setattr(tfc._WORKER, "_process", None)
  with pytest.raises(CodecError, match="its process ended"):
    tfc.fingerprint()


@needs_tfc
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_both_coders_give_the_symbols_back_portion_by_portion(spread):
  symbols, indexes = message(20_000, spread=spread)
  indexes[:10] = 0
  symbols[:10] = (2**22 - 1) * np.array([1, -1] * 5)
  strings = []
  for name in CODERS:
    module = load_coder(name)
    encoder = module.Encoder()
    for start in range(0, 20_000, 6000):
      encoder.put(symbols[start : start + 6000], indexes[start : start + 6000], GAUSSIAN)
    strings.append(encoder.string())
    decoder = module.Decoder(strings[-1])
    decoded = [decoder.get(indexes[start : start + 6000], GAUSSIAN) for start in range(0, 20_000, 6000)]
    np.testing.assert_array_equal(np.concatenate(decoded), symbols)
  if spread == 1:  # escaped numbers stand in another code there
    assert len(strings[1]) == pytest.approx(len(strings[0]), rel=0.01)
  assert strings[0] != strings[1]


@needs_tfc
def test_both_coders_give_mixtures_back():
  rng = np.random.default_rng(0)
  mix = Mixture(rng.dirichlet(np.ones(3), 5000), rng.normal(size=(5000, 3)), np.exp(rng.normal(size=(5000, 3))))
  symbols = to_symbols(3 * rng.normal(size=5000))
  n_bytes = []
  for name in CODERS:
    encoder = load_coder(name).Encoder()
    mixture.put(encoder, symbols, mix)
    n_bytes.append(len(encoder.string()))
    np.testing.assert_array_equal(mixture.get(load_coder(name).Decoder(encoder.string()), mix), symbols)
  assert n_bytes[1] == pytest.approx(n_bytes[0], rel=1e-3)


@needs_tfc
def test_decoders_are_open_side_by_side():
  """As for a batch of pictures, front by front."""
  messages = [message(50, seed) for seed in range(5)]
  decoders = []
  for symbols, indexes in messages:
    encoder = tfc.Encoder()
    encoder.put(symbols, indexes, GAUSSIAN)
    decoders.append(tfc.Decoder(encoder.string()))
  for part in (slice(20), slice(20, 50)):
    for decoder, (symbols, indexes) in zip(decoders, messages):
      np.testing.assert_array_equal(decoder.get(indexes[part], GAUSSIAN), symbols[part])


@needs_tfc
def test_damaged_strings_are_errors_or_symbols_and_the_coder_lives_on():
  symbols, indexes = message(300, spread=4)
  encoder = tfc.Encoder()
  encoder.put(symbols, indexes, GAUSSIAN)
  string, rng = encoder.string(), np.random.default_rng(0)
  for _ in range(100):
    damaged = bytearray(string)
    for at in rng.integers(0, len(string), rng.integers(1, 4)):
      damaged[at] = rng.integers(256)
    try:
      assert tfc.Decoder(bytes(damaged)).get(indexes, GAUSSIAN).shape == symbols.shape
    except CodecError:
      continue
  np.testing.assert_array_equal(tfc.Decoder(string).get(indexes, GAUSSIAN), symbols)


@needs_tfc
def test_its_fingerprint_names_the_ops():
  assert tfc.fingerprint().startswith("tensorflow-compression-ops 2.")
