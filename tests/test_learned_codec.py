"""Learned codecs with small random weights: blobs that hang on the picture alone, and the decoder's own pixels."""

import functools
import os
import platform
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from robust_compress import foreign
from robust_compress.codecs import canonical_point, check_level, ladder, load_codec, varint
from robust_compress.codecs.learned import arithmetic, coders, container, programs, tfc, tiles, weights
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.compress import compress
from robust_compress.data.cache import CodedSource
from robust_compress.types import CodecError, LevelError, SpecError, WeightsError
from tests.fakes import MemorySource, photo
from tests.small_networks import LEVELS, small_weights
from tests.test_learned_tfc import needs_tfc

every_network = pytest.mark.parametrize("name", NETWORKS)
FAST = ("bmshj2018-factorized", "mbt2018-mean", "mbt2018", "cheng2020-gmm")  # one of every way to code
every_way = pytest.mark.parametrize("name", FAST)


@functools.cache
def codec_of(name, levels=LEVELS, **options):
  return load_codec(name, weights=str(small_weights(name, levels)), **options)


def coded(codec, clip, level=3.5):
  return codec.encode([clip], [level])[0].blob


# ----------------------------------------------------------------------------------------------- pixels, bytes


@every_network
def test_the_encoder_s_reconstruction_is_what_is_decoded(name):
  codec, clips = codec_of(name), [photo(50, 70, seed) for seed in range(2)]
  made = codec.encode(clips, [1, 4.25], reconstruct=True)
  for one, clip, decoded in zip(made, clips, codec.decode([one.blob for one in made])):
    assert decoded.dtype == np.uint8
    assert decoded.shape == clip.shape
    assert decoded.std() > 1
    np.testing.assert_array_equal(one.pixels, decoded)
  assert codec.encode(clips[:1], [1])[0].pixels is None


@every_way
def test_blobs_do_not_hang_on_the_batch(name):
  codec, clips = codec_of(name), [photo(40 + seed % 2, 60, seed) for seed in range(32)]
  levels = [1 + seed % 11 / 2 for seed in range(32)]
  alone = [coded(codec, clip, level) for clip, level in zip(clips, levels)]
  together = codec.encode(clips, levels)
  assert [one.blob for one in together] == alone
  for here, there in zip(codec.decode(alone), (codec.decode([blob])[0] for blob in alone)):
    np.testing.assert_array_equal(here, there)


@every_way
def test_any_size_and_clips_of_frames(name):
  codec = codec_of(name)
  for shape in ((1, 1, 1), (1, 1, 65), (1, 64, 64), (3, 17, 5)):
    [decoded] = codec.decode([coded(codec, photo(*shape[1:], n_frames=shape[0]))])
    assert decoded.shape == (*shape, 3)


def test_a_blob_says_all_but_the_weights():
  codec = codec_of("mbt2018")
  header = container.read(coded(codec, photo(50, 70), 2.125)).header
  assert (header.model, header.height, header.width, header.level) == ("mbt2018", 50, 70, 2.125)
  assert header.weights in codec.fingerprint()
  between = coded(codec, photo(50, 70), 2.1260001)  # of the levels that a blob can name
  assert container.read(between).header.level == 2.125
  assert between == coded(codec, photo(50, 70), 2.125)


@every_way
def test_more_bytes_for_a_higher_level(name):
  lengths = [len(coded(codec_of(name), photo(100, 100), level)) for level in (1, 3, 6)]
  assert lengths == sorted(set(lengths))


# ------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("n", [1, 7, 20, 21, 40, 63])
@pytest.mark.parametrize(("window", "halo"), [(20, 2), (20, 9), (1, 0)])
def test_tiles_cover_everything_once_and_halos_are_as_wide_as_asked(n, window, halo):
  spans, kept = list(tiles.spans(n, window, halo)), []
  for start, first, end in spans:
    stop = start + min(window, n)
    assert start in (0, first - halo, n - window)
    assert first - start >= halo or start == 0
    assert stop - end >= halo or stop == n
    kept += range(first, end)
  assert kept == list(range(n))


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "mbt2018", "cheng2020-attn"])
def test_tiles_give_the_numbers_of_the_whole(name, monkeypatch):
  """Every transform, by windows that end inside the picture and at its borders."""
  network = programs.of_file(name, small_weights(name), 0)
  reach, hyper_reach = network._module.reach, network._module.hyper_reach
  rng = np.random.default_rng(0)
  y, z = rng.normal(size=(36, 44, network.loaded.m)), rng.normal(size=(14, 17, network.loaded.n))
  pixels = photo(16 * 36, 16 * 44)[0]
  whole = [network.analysis(pixels, 2), network.synthesis(np.float32(y), 2)]
  whole += [network.hyper_analysis(np.float32(y), 2), network.features(np.float32(z), 2)]
  monkeypatch.setattr(programs, "WINDOW", 2 * reach + 5)
  by_tiles = [network.analysis(pixels, 2), network.synthesis(np.float32(y), 2)]
  monkeypatch.setattr(programs, "WINDOW", 2 * hyper_reach + 1)
  by_tiles += [network.hyper_analysis(np.float32(y), 2), network.features(np.float32(z), 2)]
  for found, expected in zip(by_tiles, whole):
    if expected.dtype == np.uint8:
      assert np.abs(found.astype(int) - expected).max() <= 1
      assert (found != expected).mean() < 1e-3
    else:
      np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@every_way
def test_large_pictures_go_by_tiles_on_both_sides(name, monkeypatch):
  codec, clip = codec_of(name), photo(150, 200)
  whole = codec.decode([coded(codec, clip)])[0].astype(int)
  monkeypatch.setattr(programs, "WINDOW", 8)
  monkeypatch.setattr(type(codec._programs_at(1)._module), "reach", 2)
  [one] = codec.encode([clip], [3.5], reconstruct=True)
  [decoded] = codec.decode([one.blob])
  np.testing.assert_array_equal(one.pixels, decoded)
  assert decoded.shape == clip.shape
  if not name.startswith("cheng"):  # which sees farther
    assert np.abs(decoded - whole).mean() < 1


# ------------------------------------------------------------------------------------------------- in a data set


def test_kept_pixels_are_the_encoder_s_and_the_decoder_s(tmp_path):
  codec = codec_of("mbt2018")
  source = MemorySource([photo(40, 60, seed) for seed in range(5)])
  compress(source, codec, 3, tmp_path, keep_pixels=True, progress=False)
  coded_source = CodedSource(source, tmp_path, codec)
  blobs = [coded_source.blob(index) for index in range(5)]
  assert coded_source.index["pixels_n_bytes"].all()
  for index, decoded in enumerate(codec.decode(blobs)):
    np.testing.assert_array_equal(coded_source.picture(index).clip, decoded)
    assert coded_source.picture(index).n_bytes == len(blobs[index])


# ----------------------------------------------------------------------------------------------------- bad input


def test_a_size_that_no_string_holds_is_refused_at_once():
  """All zeros of so many symbols would take more bytes: nothing is allocated and no network runs."""
  codec = codec_of("mbt2018-mean")
  key = container.read(coded(codec, photo())).header.weights
  header = container.Header("mbt2018-mean", key, 9000, 9000, 3.5)
  with pytest.raises(CodecError, match=r"mbt2018-mean: 4 bytes cannot hold 38\d\d\d\d\d symbols"):
    codec.decode([container.write(header, [b"\1" * 4, b"\1" * 4], [])])
  with pytest.raises(CodecError, match=r"mbt2018-mean: 4 bytes cannot hold 15\d\d\d\d symbols"):  # of z
    codec.decode([container.write(header, [b"\1" * 4, b"\1" * 100_000], [])])
  factorized = codec_of("bmshj2018-factorized")
  header = container.Header("bmshj2018-factorized", factorized._key(), 9000, 9000, 3.5)
  with pytest.raises(CodecError, match=r"factorized: 4 bytes cannot hold 38\d\d\d\d\d symbols"):
    factorized.decode([container.write(header, [b"\1" * 4], [])])
  with pytest.raises(CodecError, match="over the limit of 89478485 pixels"):
    codec.decode([replaced_size(coded(codec, photo(100, 100)), 100, 16000)])


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", "cheng2020-gmm"])
def test_a_picture_that_padding_makes_enormous_is_refused(name):
  """Under the limit on pixels, and 64 times as many where sides are multiples of 64."""
  codec = codec_of(name)
  with pytest.raises(CodecError, match=f"{name}: 3000000x1 is too narrow, it is padded to 3000000x64"):
    codec.encode([np.zeros((1, 1, 3_000_000, 3), np.uint8)], [3])
  header = container.Header(name, codec._key(), 1, 3_000_000, 3.5)
  with pytest.raises(CodecError, match=f"{name}: 3000000x1 is too narrow"):
    codec.decode([container.write(header, [b"\1" * 4, bytes(1 << 16)], [])])


def replaced_size(blob, old, new):
  """With an own checksum over the header that lies, as anybody could write it."""
  contents = container.read(blob)
  start = blob[:6] + blob[6:].replace(bytes([old, old]), varint.write(new) * 2, 1)
  end = len(start) - sum(map(len, contents.strings)) - 4
  return start[:end] + container._damage(start[:end], start[end + 1 :]) + start[end + 1 :]


@every_way
def test_blobs_of_other_weights_and_networks_are_refused(name):
  blob = coded(codec_of(name), photo())
  other = load_codec(name, weights=str(small_weights(name, sign=-1)))
  needed, there = (container.read(made).header.weights for made in (blob, coded(other, photo())))
  with pytest.raises(CodecError, match=f"{name}: coded with the weights {needed}; those at hand are {there}"):
    other.decode([blob])
  with pytest.raises(CodecError, match=f"cheng2020-anchor: coded by {name}"):
    codec_of("cheng2020-anchor").decode([blob])
  with pytest.raises(WeightsError, match=f"no weights come with .* coded with the weights {needed}"):
    without_weights(name).decode([blob])


def without_weights(name):
  codec = load_codec(name)
  codec._file = None
  return codec


@pytest.mark.parametrize("name", FAST)
def test_strings_that_are_exchanged_are_never_a_picture(name):
  """Under a header with the right checksum over bytes: the one over symbols tells."""
  codec = codec_of(name)
  first, second = (container.read(coded(codec, photo(50, 70, seed))) for seed in range(2))
  blob = coded(codec, photo(50, 70))
  at = len(blob) - sum(map(len, first.strings)) - 4
  for strings in {(*first.strings[:-1], second.strings[-1]), second.strings, (*first.strings[:-1], b"")}:
    if len(strings) > 1 and len(strings[0]) != len(first.strings[0]):
      continue  # whose length stands in the header
    rest = blob[at + 1 : at + 4] + b"".join(strings)
    with pytest.raises(CodecError, match=name):
      codec.decode([blob[:at] + container._damage(blob[:at], rest) + rest])


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior", *FAST[1:]])
def test_a_decoder_that_foretells_otherwise_is_told(name, monkeypatch):
  """As on a machine whose products are rounded in another order."""
  codec = codec_of(name)
  network, blob = codec._programs_at(3), coded(codec_of(name), photo(100, 100))
  features = network.features
  monkeypatch.setattr(network, "features", lambda *given: features(*given) * np.float32(1.02))
  with pytest.raises(CodecError, match=f"{name}: (decodes to other symbols than were coded|a coded string holds)"):
    codec.decode([blob])


def test_memory_that_jax_does_not_get_is_a_memory_error(monkeypatch):
  """Which the worker for foreign streams tells from a bug; it has room for jax to begin with."""

  def exhausted(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

  codec = codec_of("mbt2018-mean")
  blob = coded(codec, photo())
  monkeypatch.setattr(codec._programs_at(3), "_synthesis", exhausted)
  with pytest.raises(MemoryError, match="no memory for 4x4 positions at once"):
    codec.decode([blob])
  assert foreign.limits("mbt2018-mean")["memory_bytes"] > 2 << 30
  assert foreign.limits("jpeg") == {}


@every_way
def test_weights_that_give_no_numbers_are_told(name, monkeypatch):
  codec = codec_of(name)
  network = codec._programs_at(3)
  monkeypatch.setattr(network, "analysis", lambda *_: np.full((4, 4, network.loaded.m), np.nan, np.float32))
  with pytest.raises(CodecError, match=f"{name}: a network gave numbers to code that are not finite"):
    codec.encode([photo()], [3])


# ------------------------------------------------------------------------------------------- weights and levels


def test_a_codec_costs_nothing_until_it_is_used(monkeypatch, tmp_path):
  monkeypatch.setattr(weights, "SHIPPED", tmp_path)
  for name in NETWORKS:
    assert load_codec(name).levels == tuple(range(1, 7 if name.startswith("cheng") else 9))
  shutil.copy(small_weights("mbt2018"), tmp_path / "mbt2018-01234567.safetensors")
  assert load_codec("mbt2018").levels == tuple(range(1, LEVELS + 1))


def test_levels_of_gain_units_are_real_numbers():
  codec = codec_of("mbt2018-mean")
  assert codec.levels == (1, 2, 3, 4, 5, 6)
  assert ladder(codec) == (codec.levels, True)
  check_level(codec, 1.37)
  with pytest.raises(LevelError, match=r"mbt2018-mean@6\.5: quality runs from 1 to 6"):
    check_level(codec, 6.5)
  with pytest.raises(LevelError):
    codec.encode([photo()], [float("nan")])


def test_a_single_file_has_the_level_in_its_name(tmp_path):
  plain = small_weights("mbt2018", levels=0)
  for name, level in (("mbt2018-3-723404a8.pth.tar", 3), ("mine.safetensors", 1), ("mine-3.safetensors", 1)):
    shutil.copy(plain, tmp_path / name)
    assert load_codec("mbt2018", weights=str(tmp_path / name)).levels == (level,)
  codec = load_codec("mbt2018", weights=str(tmp_path / "mine.safetensors"))
  assert codec.decode([coded(codec, photo(), 1)])[0].shape == (1, 48, 64, 3)
  with pytest.raises(LevelError, match="quality runs from 1 to 1"):
    check_level(codec, 2)
  third = load_codec("mbt2018", weights=str(tmp_path / "mine.safetensors"))
  third.levels = (3,)  # as under a name that says so
  assert codec.decode([coded(third, photo(), 3)])[0].shape == (1, 48, 64, 3)  # the weights are the same


def test_a_folder_has_a_file_for_each_level(tmp_path):
  codec = load_codec("cheng2020-attn", weights=str(tmp_path), metric="ms-ssim")
  assert codec.levels == (1, 2, 3, 4, 5, 6)
  with pytest.raises(LevelError, match="in whole numbers from 1 to 6"):
    check_level(codec, 2.5)
  with pytest.raises(WeightsError, match=r"no file cheng2020_attn-ms-ssim-2-5dad201d\.pth\.tar in .*; fetch https://"):
    codec.encode([photo()], [2])
  assert "weights of CompressAI for ms-ssim" in codec.fingerprint()


def test_what_is_missing_is_told_with_its_remedy(tmp_path):
  with pytest.raises(WeightsError, match=r"cheng2020-attn: no weights come with this package.*\(weights=PATH\)"):
    without_weights("cheng2020-attn").encode([photo()], [2])
  with pytest.raises(WeightsError, match="mbt2018: no file or folder /nowhere"):
    load_codec("mbt2018", weights="/nowhere")
  with pytest.raises(SpecError, match=r"mbt2018\(coder=rans\): expected one of constriction, tfc"):
    load_codec("mbt2018", coder="rans")
  with pytest.raises(SpecError, match=r"mbt2018\(metric=lpips\): expected one of mse, ms-ssim"):
    load_codec("mbt2018", metric="lpips")
  with pytest.raises(SpecError, match="is a folder, and no files of it were published; name one file"):
    load_codec("cheng2020-gmm", weights=str(tmp_path))
  with pytest.raises(SpecError, match="no option of mbt2018 'weight'; did you mean 'weights'"):
    load_codec("mbt2018", weight="")


def test_weights_of_another_network_are_refused():
  with pytest.raises(WeightsError, match=r"unfilled .*are they of another architecture"):
    load_codec("mbt2018", weights=str(small_weights("mbt2018-mean"))).encode([photo()], [1])


def test_points_name_weights():
  point = f"mbt2018-mean(weights={small_weights('mbt2018-mean')})@2.5"
  assert str(canonical_point(point)) == point
  assert str(canonical_point("mbt2018-mean(coder=constriction)@2")) == "mbt2018-mean@2"
  assert load_codec(point).fingerprint() == codec_of("mbt2018-mean").fingerprint()


def test_the_fingerprint_tells_weights_and_coder():
  fingerprint = codec_of("mbt2018-mean").fingerprint()
  assert "jax " in fingerprint
  assert "scipy " in fingerprint
  assert "constriction " in fingerprint
  assert "strings 3" in fingerprint
  assert f"arithmetic {arithmetic.fingerprint()}" in fingerprint
  assert str(small_weights("mbt2018-mean").parent) not in fingerprint
  other = load_codec("mbt2018-mean", weights=str(small_weights("mbt2018-mean", sign=-1)))
  assert other.fingerprint() != fingerprint


def test_the_fingerprint_tells_processors_that_compute_otherwise():
  script = "from robust_compress.codecs.learned import arithmetic; print(arithmetic.fingerprint())"
  flags = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, "-c", script], env=os.environ | flags, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert len(done.stdout.strip()) == len(arithmetic.fingerprint()) == 8
  is_without_fma = platform.machine() != "x86_64"
  assert (done.stdout.strip() == arithmetic.fingerprint()) == is_without_fma


def test_without_the_processor_among_the_platforms_the_error_says_so(monkeypatch):
  def local_devices(backend):
    raise RuntimeError(f"Unknown backend: '{backend}' requested, but no platforms that are instances of it are present")

  monkeypatch.setattr(jax, "local_devices", local_devices)
  with pytest.raises(CodecError, match=r"computed on the processor.*set JAX_PLATFORMS=.*cpu"):
    arithmetic.host()


# ------------------------------------------------------------------------------------------------ the other coder


@pytest.mark.parametrize("name", FAST)
def test_without_tfc_the_error_says_how_to_get_it(name, monkeypatch, tmp_path):
  monkeypatch.setenv(tfc.PYTHON_VARIABLE, str(tmp_path / "python"))
  monkeypatch.setattr(tfc._WORKER, "_process", None)
  with pytest.raises(CodecError, match=f"{name}: coder 'tfc': no Python at .*`make tfc` builds it"):
    codec_of(name, coder="tfc").encode([photo()], [3])


@needs_tfc
@every_way
def test_tfc_codes_the_same_symbols_to_other_bytes(name):
  """And blobs say who wrote them: either codec decodes those of the other."""
  clip, (ours, theirs) = photo(50, 70), (codec_of(name, coder=coder) for coder in coders.CODERS)
  [here] = ours.encode([clip], [3.5], reconstruct=True)
  [there] = theirs.encode([clip], [3.5], reconstruct=True)
  assert here.blob != there.blob
  assert len(there.blob) == pytest.approx(len(here.blob), rel=0.1)  # what is outside a row costs otherwise
  np.testing.assert_array_equal(here.pixels, there.pixels)
  for codec in (ours, theirs):
    for decoded in codec.decode([here.blob, there.blob]):
      np.testing.assert_array_equal(decoded, here.pixels)
  assert "tensorflow-compression-ops" in theirs.fingerprint()
