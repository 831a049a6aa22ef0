"""Every codec of the table, by being in it; then what the formats of Pillow promise beyond that."""

import functools
import io
import itertools
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import av
import jax
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robust_compress.codecs import canonical_point, check_level, frames, load_codec
from robust_compress.codecs.frames import pack, unpack
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.specs import parse_point
from robust_compress.types import NONE, CodecError, LevelError, SpecError
from tests.fakes import codec_params, installed_codecs, photo, spec

every_codec = pytest.mark.parametrize("name", codec_params())
every_trained_codec = pytest.mark.parametrize("name", codec_params(trained=True))


def coded(codec, clip, level=None):
  return codec.encode([clip], [codec.levels[len(codec.levels) // 2] if level is None else level])[0].blob


def load(name):
  return load_codec(spec(name))


def psnr(a, b):
  return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9))


# ------------------------------------------------------------------------------------------- every codec


@every_trained_codec
def test_rate_and_quality_rise_along_the_ladder(name):
  codec, clip = load_codec(name), photo(96, 128)
  blobs = [coded(codec, clip, level) for level in codec.levels]
  quality = [psnr(clip, pixels) for pixels in codec.decode(blobs)]
  assert len(codec.levels) >= 5
  assert all(len(a) <= len(b) for a, b in itertools.pairwise(blobs))
  # The ladders of networks end at lower rates: the picture's noise, 32.6 dB, is then hardly coded.
  least, rise = (30, 2) if name in NETWORKS else (35, 8)
  assert quality[-1] > max(least, quality[0] + rise)


@every_codec
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 7, 1), (1, 17, 33), (3, 15, 21), (2, 1, 1)])
def test_every_shape_comes_back(name, shape):
  codec, clip = load(name), photo(*shape[1:], n_frames=shape[0])
  for level in (codec.levels[0], codec.levels[-1]):
    [pixels] = codec.decode([coded(codec, clip, level)])
    assert pixels.shape == clip.shape
    assert pixels.dtype == np.uint8


@every_trained_codec
def test_grey_stays_near_grey(name):
  codec = load_codec(name)
  clip = np.repeat(photo(40, 40)[..., :1], 3, axis=-1)
  [pixels] = codec.decode([coded(codec, clip, codec.levels[-1])])
  assert np.ptp(pixels.astype(int), axis=-1).max() <= 12


@every_codec
def test_threads_give_the_same_bytes_and_pixels(name):
  codec, clips = load(name), [photo(40, 56, seed) for seed in range(8)]
  alone = [coded(codec, clip) for clip in clips]
  with ThreadPoolExecutor(4) as pool:
    together = list(pool.map(lambda clip: coded(codec, clip), clips))
    pixels = list(pool.map(lambda blob: codec.decode([blob])[0], together))
  assert together == alone
  assert all(np.array_equal(a, b) for a, b in zip(pixels, codec.decode(alone)))


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory):
  """Pixels of a blob of every codec, decoded by a process that has seen nothing else."""
  folder = tmp_path_factory.mktemp("blobs")
  for name in installed_codecs():
    (folder / name).write_bytes(coded(load(name), photo(n_frames=2)))
  program = (
    "import pathlib, sys, numpy as np; from robust_compress.codecs import load_codec\n"
    "for spec in sys.argv[2:]:\n"
    "  path = pathlib.Path(sys.argv[1]) / spec.partition('(')[0]\n"
    "  np.save(f'{path}.npy', load_codec(spec).decode([path.read_bytes()])[0])"
  )
  subprocess.run([sys.executable, "-c", program, str(folder), *map(spec, installed_codecs())], check=True)
  return folder


@every_codec
def test_blob_alone_decodes_in_a_fresh_process(name, fresh_process):
  [here] = load(name).decode([(fresh_process / name).read_bytes()])
  assert np.array_equal(here, np.load(fresh_process / f"{name}.npy"))


@every_codec
def test_whatever_is_cut_off_is_an_error(name):
  codec = load(name)
  for clip in (photo(31, 45), photo(9, 9, n_frames=3)):
    blob = coded(codec, clip)
    for n_bytes in range(len(blob)):
      with pytest.raises(CodecError):
        codec.decode([blob[:n_bytes]])


@functools.cache
def small_blob(name, n_frames):
  return coded(load(name), photo(16, 16, n_frames=n_frames))


@every_codec
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_a_codec_error_or_a_picture(name, data):
  codec = load(name)
  blob = bytearray(small_blob(name, data.draw(st.sampled_from([1, 2]))))
  for _ in range(data.draw(st.integers(1, 4))):
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
  try:
    [clip] = codec.decode([bytes(blob)])
  except CodecError:
    return
  assert clip.dtype == np.uint8
  assert clip.ndim == 4


@every_codec
def test_a_foreign_format_is_refused(name):
  buffer = io.BytesIO()
  Image.fromarray(photo()[0]).save(buffer, "PNG")
  for blob in (buffer.getvalue(), b"", b"CLIP"):
    with pytest.raises(CodecError, match=name):
      load(name).decode([blob])


@every_codec
def test_bad_arrays_are_refused(name):
  codec = load(name)
  for clip in (photo()[0], photo().astype(np.float32), photo()[..., :1], photo()[:0], photo()[:, :0]):
    with pytest.raises(CodecError, match=r"expected uint8\[t h w 3\]"):
      coded(codec, clip)


@every_codec
def test_levels_outside_the_ladder_are_refused(name):
  codec = load(name)
  low, high = min(codec.levels), max(codec.levels)
  for level in (low - 1, high + 1, float("nan"), float("inf")):
    with pytest.raises(LevelError, match=f"{name}@.* from ({low} to {high}|{high} to {low})"):
      check_level(codec, level)
    with pytest.raises(LevelError):
      codec.encode([photo()], [level])
  for level in ("10", True, None):
    with pytest.raises(LevelError, match="not a number"):
      check_level(codec, level)


@every_codec
def test_fingerprint_names_versions_and_options(name):
  fingerprint = load(name).fingerprint()
  assert any(
    f"{title} {library.__version__}" in fingerprint for title, library in (("pillow", PIL), ("av", av), ("jax", jax))
  )
  assert "None" not in fingerprint
  assert fingerprint == load(name).fingerprint()


# --------------------------------------------------------------------------------------- Pillow's formats


def test_jpeg_is_what_pillow_saves_at_a_quality():
  clip = photo(50, 70)
  for quality in (5, 10, 15, 50, 75, 95):
    assert quality in load_codec("jpeg").levels
    buffer = io.BytesIO()
    Image.fromarray(clip[0]).save(buffer, "JPEG", quality=quality)
    assert coded(load_codec("jpeg"), clip, quality) == buffer.getvalue()


@pytest.mark.parametrize("name", ["jpeg", "avif"])
def test_444_keeps_colour_that_420_loses(name):
  clip = np.zeros((1, 32, 32, 3), np.uint8)
  clip[:, :, ::2] = (255, 0, 0)
  clip[:, :, 1::2] = (0, 0, 255)
  error = {}
  for subsampling in (420, 444):
    codec = load_codec(name, subsampling=subsampling)
    error[subsampling] = psnr(clip, codec.decode([coded(codec, clip, 95)])[0])
  assert error[444] > error[420] + 10


def test_jpeg2000_levels_are_decibels():
  codec, clip = load_codec("jpeg2000"), photo(128, 128)
  for level in (25, 32.5, 40):
    assert psnr(clip, codec.decode([coded(codec, clip, level)])[0]) == pytest.approx(level, abs=2)


def test_a_still_picture_is_a_plain_file_and_a_clip_is_its_files():
  codec, clip = load_codec("jpeg"), photo(n_frames=3)
  files = [coded(codec, frame[None]) for frame in clip]
  assert Image.open(io.BytesIO(files[0])).size == (64, 48)
  assert coded(codec, clip) == pack(files)
  assert len(pack(files)) == sum(map(len, files)) + 8 + 4 * 3


@given(st.lists(st.binary(max_size=9), min_size=2, max_size=6))
def test_pack_inverts(files):
  assert unpack(pack(files)) == files


@pytest.mark.parametrize("n_frames", [0, 1, 3, 2**32 - 1])
def test_a_frame_table_that_does_not_add_up_is_refused(n_frames):
  blob = coded(load_codec("jpeg"), photo(n_frames=2))
  with pytest.raises(CodecError, match=r"table|declares"):
    load_codec("jpeg").decode([blob[:4] + struct.pack("<I", n_frames) + blob[8:]])


def test_frames_of_different_size_are_refused():
  codec = load_codec("jpeg")
  blob = pack([coded(codec, photo(16, 16)), coded(codec, photo(16, 24))])
  with pytest.raises(CodecError, match="frame 1 is"):
    codec.decode([blob])


def test_a_bomb_is_refused_by_its_header():
  blob = bytearray(coded(load_codec("jpeg"), photo()))
  at = blob.index(b"\xff\xc0") + 5
  blob[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
  with pytest.raises(CodecError):
    load_codec("jpeg").decode([bytes(blob)])


def test_many_frames_count_together_against_the_limit(monkeypatch):
  blob = coded(load_codec("jpeg"), photo(10, 10, n_frames=3))
  monkeypatch.setattr(frames, "MAX_PIXELS", 299)
  with pytest.raises(CodecError, match="over the limit of 299 pixels"):
    load_codec("jpeg").decode([blob])


def test_what_could_not_be_decoded_is_not_coded():
  clip = np.broadcast_to(np.uint8(0), (1, 9460, 9460, 3))
  with pytest.raises(CodecError, match="over the limit of 89478485 pixels"):
    load_codec("jpeg").encode([clip], [50])


def test_a_picture_too_wide_for_the_format_is_an_error():
  with pytest.raises(CodecError, match=r"webp: cannot code a picture of 20000x1 pixels"):
    coded(load_codec("webp"), np.zeros((1, 1, 20_000, 3), np.uint8))


# ------------------------------------------------------------------------------------------ names, points


def test_level_errors_read_as_the_design_says():
  with pytest.raises(LevelError) as error:
    canonical_point("jpeg@0")
  assert str(error.value) == "jpeg@0: quality runs from 1 to 100"
  with pytest.raises(LevelError, match=r"jpeg@10\.5: quality runs in whole numbers from 1 to 100"):
    canonical_point("jpeg@10.5")


@pytest.mark.parametrize(
  ("text", "canonical"),
  [
    ("jpeg@10", "jpeg@10"),
    ("jpeg(subsampling=420)@10.0", "jpeg@10"),
    ("jpeg(subsampling=444,optimize=True)@10", "jpeg(optimize=True,subsampling=444)@10"),
    ("webp(method=4)@0.1bpp", "webp@0.1bpp"),
    ("jpeg2000@32.5", "jpeg2000@32.5"),
    ("robust_compress.codecs.pillow:webp(method=6)@3", "robust_compress.codecs.pillow:webp(method=6)@3"),
    ("none", "none"),
  ],
)
def test_canonical_points(text, canonical):
  assert str(canonical_point(text)) == canonical
  assert canonical_point(canonical_point(text)) == parse_point(canonical)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("jpg@10", r"no codec 'jpg'; did you mean 'jpeg'\? \(robust-compress list codecs\)"),
    ("jpeg(subsample=444)@10", "no option of jpeg 'subsample'; did you mean 'subsampling'"),
    ("jpeg(colour=1)@10", "there are: backend, optimize, progressive, subsampling"),
    ("jpeg(subsampling=422)@10", r"jpeg\(subsampling=422\): expected one of 420, 444"),
    ("webp(method=7)@10", "expected one of 0, 1, 2"),
    ("webp@0bpp", "positive number"),
    ("none(a=1)", "takes no options"),
    ("no.such.module:codec@1", "cannot import 'no.such.module'"),
    ("robust_compress.codecs.pillow:jpg@1", "did you mean 'jpeg'"),
  ],
)
def test_points_that_cannot_be(text, message):
  with pytest.raises(SpecError, match=message):
    canonical_point(text)


def test_load_codec_takes_every_written_form():
  expected = load_codec("jpeg", subsampling=444).fingerprint()
  for form in ("jpeg(subsampling=444)", "jpeg(subsampling=444)@10", parse_point("jpeg(subsampling=444)@10")):
    assert load_codec(form).fingerprint() == expected
  assert load_codec("robust_compress.codecs.pillow:jpeg").name == "jpeg"
  with pytest.raises(CodecError, match="'none' is no codec"):
    load_codec(NONE)
