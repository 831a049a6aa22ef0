"""Real coding against CompressAI's compress and decompress on the same weights: the same pictures, in as many bytes.

CompressAI has no mixture of Gaussians: cheng2020-gmm is held to what its own distributions estimate.
"""

import functools

import numpy as np
import pytest
from golden import learned_cases
from golden.learned_cases import CASES, LARGE, LARGE_STEP
from test_learned_networks import compiled, foreign_shapes, golden

from robust_compress import convert
from robust_compress.codecs import load_codec
from robust_compress.codecs.learned import coder, container, strings, weights
from robust_compress.codecs.learned.networks import load_network
from robust_compress.codecs.learned.programs import Programs

GMM = CASES["cheng2020-attn"]  # of cheng2020-gmm, but for how y is foretold


def file_of(name, folder):
  """Weights as the golden has them, in CompressAI's names."""
  case, is_gmm = learned_cases.foretelling(CASES.get(name, GMM)), name not in CASES
  network = load_network(name).build(n=case.n, m=case.m, **({"hidden": 20} if is_gmm else {}))
  if is_gmm:
    case = case._replace(foretells="")
  keys = {key: shape for key, shape in foreign_shapes(network).items() if not key.endswith("quantiles")}
  arrays = {key: learned_cases.weight(case, key, shape) for key, shape in keys.items()}
  if is_gmm:  # k weights for each latent, then its means, then its scales
    arrays["entropy_parameters.4.bias"] += np.repeat(np.float32([0, 0, 2.5]), 3 * case.m)
  arrays["entropy_bottleneck.quantiles"] = golden("cheng2020-attn" if is_gmm else name)["quantiles"]
  convert.write_safetensors(folder / f"{name}.safetensors", arrays)
  return folder / f"{name}.safetensors"


@functools.cache
def coded(name, folder):
  """(codec, programs, what the codec makes of the large picture)."""
  file = file_of(name, folder)
  codec = load_codec(name, weights=str(file))
  [coded] = codec.encode([learned_cases.large(CASES.get(name, GMM))], [codec.levels[0]], reconstruct=True)
  return codec, Programs(weights.load(name, file)), coded


@pytest.fixture
def folder(tmp_path_factory):
  return tmp_path_factory.getbasetemp()


def n_bytes(blob):
  return sum(len(string) for string in container.read(blob).strings)


def floats(name, folder):
  """What is decoded, before it is rounded to pixels: float32[1 h w 3] at every LARGE_STEP-th row and column."""
  _, programs, coded_ = coded(name, folder)
  contents = container.read(coded_.blob)
  size = [side // 16 for side in LARGE]
  latents = strings.read(programs, contents.strings, size, contents.header.level, coder)
  synthesis = compiled(functools.partial(weights.module(programs.loaded).apply, method="synthesis"))
  return np.clip(synthesis(programs.loaded.variables, latents.y_hat[None])[:, ::LARGE_STEP, ::LARGE_STEP], 0, 1)


@pytest.mark.parametrize("name", CASES)
def test_coded_size_is_compressai_s(name, folder):
  """The difference is the end of strings: CompressAI's hold the whole state of its coder, 8 bytes each."""
  _, _, coded_ = coded(name, folder)
  assert n_bytes(coded_.blob) == pytest.approx(golden(name)["large_n_bytes"].sum(), rel=5e-3)


@pytest.mark.parametrize("name", CASES)
def test_reconstruction_is_compressai_s(name, folder):
  np.testing.assert_allclose(floats(name, folder), golden(name)["large_decoded"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_compressai_s(name, folder):
  codec, _, coded_ = coded(name, folder)
  [decoded] = codec.decode([coded_.blob])
  np.testing.assert_array_equal(decoded, coded_.pixels)
  expected = np.rint(255 * golden(name)["large_decoded"])
  assert np.abs(decoded[:, ::LARGE_STEP, ::LARGE_STEP] - expected).max() <= 1


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "cheng2020-gmm"])
def test_coded_size_is_what_the_network_estimates(name, folder):
  """Where each symbol's distribution can be had in one pass: a mixture's symbols do not hang on its means."""
  _, programs, coded_ = coded(name, folder)
  picture = learned_cases.large(CASES.get(name, GMM)).astype(np.float32) / np.float32(255)
  done = compiled(weights.module(programs.loaded).apply)(programs.loaded.variables, picture)
  assert n_bytes(coded_.blob) == pytest.approx(float(done.bits()[0]) / 8, rel=0.01)
