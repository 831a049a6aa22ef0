"""`codec encode | decode | info`: what a person gets, of every codec in the table."""

import contextlib
import io
import math
import pathlib
import re

import numpy as np
import pytest
from fakes import photo, spec
from PIL import Image

from robust_compress import codecs, main
from robust_compress.codecs.learned import container
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.inspect import clip_files, codec, headers, quality
from robust_compress.types import CodecError, DataError, LevelError, SpecError

KIT = pathlib.Path(__file__).parent.parent.parent / "shared" / "kit"
FAST = {"bpg": "bpg(preset=superfast)", "av1": "av1(preset=12)"}
HEIGHT, WIDTH = 72, 88


def available(name):
  try:
    return bool(codecs.load_codec(name))
  except SpecError:
    return False  # its extra is not installed


NAMES = [name for name in codecs.CODECS if available(name)]


def called(name):
  return FAST.get(name) or spec(name)


def middle(name):
  levels = codecs.load_codec(called(name)).levels
  return f"{called(name)}@{levels[len(levels) // 2]:g}"


def whose(name):
  """What decoding needs to be told besides the file: of networks whose weights do not come with this package."""
  return [f"--codec={spec(name)}"] if name in NETWORKS else []


@pytest.fixture
def picture(tmp_path):
  Image.fromarray(photo(HEIGHT, WIDTH)[0]).save(tmp_path / "photo.png")
  return tmp_path / "photo.png"


def call(capsys, *arguments):
  main.main(["codec", *map(str, arguments)])
  return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(capsys, picture, tmp_path, name):
  """The file holds the codec's blob, is known by its bytes alone, and decodes to the pixels that were scored."""
  file, back = tmp_path / "coded", tmp_path / "back.png"
  said = call(capsys, "encode", picture, file, f"--codec={middle(name)}")
  blob = file.read_bytes()
  assert said["bytes"].replace(",", "") == str(len(blob))
  assert float(said["bpp"]) == pytest.approx(8 * len(blob) / (HEIGHT * WIDTH), abs=5e-4)
  told = call(capsys, "info", file)
  assert (told["codec"], told["size"], told["bpp"]) == (name, f"{WIDTH}x{HEIGHT}", said["bpp"])
  assert call(capsys, "decode", file, back, *whose(name))["codec"].startswith(name)
  pixels = np.asarray(Image.open(back))[None]
  assert np.array_equal(pixels, codecs.load_codec(called(name)).decode([blob])[0])
  assert f"{quality.psnr(photo(HEIGHT, WIDTH), pixels):.2f} dB" == said["PSNR"]


@pytest.mark.parametrize("name", ["jpeg", "h264"])
def test_clips_from_and_to_folders_and_videos(capsys, tmp_path, name):
  clip = photo(48, 64, n_frames=12)
  clip_files.write_clip(tmp_path / "frames", clip)
  assert np.array_equal(clip_files.read_clip(tmp_path / "frames"), clip)
  said = call(capsys, "encode", tmp_path / "frames", tmp_path / "coded", f"--codec={middle(name)}")
  assert said["size"] == "64x48, 12 frames"
  assert call(capsys, "info", tmp_path / "coded")["bpp"] == said["bpp"]
  call(capsys, "decode", tmp_path / "coded", tmp_path / "out.mkv")
  call(capsys, "decode", tmp_path / "coded", tmp_path / "out")
  [decoded] = codecs.load_codec(name).decode([(tmp_path / "coded").read_bytes()])
  assert len(list((tmp_path / "out").iterdir())) == 12
  assert np.array_equal(clip_files.read_clip(tmp_path / "out"), decoded)
  assert np.array_equal(clip_files.read_clip(tmp_path / "out.mkv"), decoded)


def test_a_rate_is_sought_on_the_picture(picture, tmp_path):
  said = codec.encode(picture, tmp_path / "coded", "jpeg@2bpp")
  assert float(said["bpp"]) == pytest.approx(2, rel=0.1)
  assert re.match(r"jpeg@\d+ ", said["codec"])
  own = codec.encode(picture, tmp_path / "coded", "jpeg(per_image=True)@2bpp")["codec"]  # all one level can be
  assert own == said["codec"]
  with pytest.raises(LevelError, match=r"jpeg@90bpp: out of reach; this picture takes from 0\.\d+ to \d"):
    codec.encode(picture, tmp_path / "coded", "jpeg@90bpp")


def test_numbered_frames_are_in_the_order_of_their_numbers(tmp_path):
  for n in (2, 10, 1):
    Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / f"frame_{n}.png")
  assert clip_files.read_clip(tmp_path)[:, 0, 0, 0].tolist() == [1, 2, 10]


# ---------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
  ("point", "facts"),
  [
    ("jpeg@75", {"chroma": "4:2:0", "format": "JPEG, baseline", "luma quality": "75 (IJG table)"}),
    ("jpeg(progressive=True,subsampling=444)@10", {"chroma": "4:4:4", "format": "JPEG, progressive"}),
    ("webp@50", {"coding": "lossy", "chroma": "4:2:0"}),
    ("avif(subsampling=444)@50", {"chroma": "4:4:4", "bits": "8"}),
    ("avif@50", {"chroma": "4:2:0"}),
    ("jpeg2000@30", {"wavelet": "9/7, lossy", "components": "3", "layers": "1", "bits": "8"}),
    (
      "bpg(chroma=444,preset=superfast)@40",
      {"chroma": "4:4:4", "bits": "8", "colours": "YCbCr BT.601", "range": "full"},
    ),
    ("bpg(depth=10,preset=superfast)@40", {"chroma": "4:2:0, between samples", "bits": "10"}),
    ("h264@40", {"frames": "1", "format": "h264"}),
  ],
)
def test_what_a_header_says(point, facts):
  chosen = codecs.load_codec(point)
  [coded] = chosen.encode([photo(40, 56)], [codecs.canonical_point(point).level])
  found = headers.describe(coded.blob, chosen.name)
  assert facts.items() <= found.items()
  assert found["size"] == "56x40"


def test_a_blob_of_weights_that_are_not_here_says_which_it_needs(picture, tmp_path):
  codec.encode(picture, tmp_path / "coded", f"{spec('cheng2020-anchor')}@2.5")
  key = container.read((tmp_path / "coded").read_bytes()).header.weights
  told = codec.info(tmp_path / "coded")
  assert (told["format"], told["level"], told["coder"]) == ("learned, cheng2020-anchor", "2.5", "constriction")
  assert told["weights"] == f"{key}, others than this package's"
  with pytest.raises(CodecError, match=f"cheng2020-anchor: no weights come with .*coded with the weights {key}"):
    codec.decode(tmp_path / "coded", tmp_path / "back.png")


def test_what_is_of_no_codec_is_named(picture, tmp_path):
  with pytest.raises(CodecError, match="a PNG file, which no codec here writes"):
    codec.info(picture)
  (tmp_path / "notes").write_bytes(b"what is this")
  with pytest.raises(CodecError, match="12 bytes that begin like no format here"):
    codec.decode(tmp_path / "notes", tmp_path / "a.png")
  (tmp_path / "empty").write_bytes(b"")
  with pytest.raises(CodecError, match="0 bytes"):
    codec.info(tmp_path / "empty")


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_header_is_an_error_or_facts(name):
  """Cut anywhere, and with any of its first bytes changed: never another exception."""
  chosen = codecs.load_codec(called(name))
  [coded] = chosen.encode([photo(HEIGHT, WIDTH)], [chosen.levels[0]])
  rng = np.random.default_rng(0)
  for cut in range(0, min(len(coded.blob), 400), 3):
    _described(coded.blob[:cut], name)
  for _ in range(200):
    damaged = bytearray(coded.blob)
    damaged[rng.integers(min(len(damaged), 200))] = rng.integers(256)
    _described(bytes(damaged), name)


def _described(blob, name):
  with contextlib.suppress(CodecError):
    assert headers.describe(blob, name)["format"]


# ----------------------------------------------------------------------------------------------- errors


def test_nothing_is_written_where_something_is_wrong(picture, tmp_path):
  file = tmp_path / "coded"
  for error, arguments in (
    (DataError, (tmp_path / "none.png", file, "jpeg@10")),
    (LevelError, (picture, file, "jpeg@0")),
    (SpecError, (picture, file, "none")),
    (SpecError, (picture, file, "jpg@10")),
  ):
    with pytest.raises(error):
      codec.encode(*arguments)
  assert not file.exists()


def test_a_target_that_would_lose_is_refused_before_anything_is_decoded(picture, tmp_path):
  codec.encode(picture, tmp_path / "coded", "jpeg@10")
  with pytest.raises(SpecError, match=r"\.jpg is not written; expected \.png"):
    codec.decode(tmp_path / "coded", tmp_path / "back.jpg")
  clip_files.write_clip(tmp_path / "frames", photo(40, 40, n_frames=2))
  codec.encode(tmp_path / "frames", tmp_path / "clip", "jpeg@10")
  with pytest.raises(SpecError, match="2 frames for one picture"):
    codec.decode(tmp_path / "clip", tmp_path / "back.png")


def test_damaged_bytes_are_the_codecs_own_error(picture, tmp_path):
  codec.encode(picture, tmp_path / "coded", "webp@50")
  (tmp_path / "cut").write_bytes((tmp_path / "coded").read_bytes()[:-40])
  with pytest.raises(CodecError, match="webp"):
    codec.decode(tmp_path / "cut", tmp_path / "back.png")
  assert not (tmp_path / "back.png").exists()


@pytest.mark.skipif(
  not (KIT / "bpg").is_dir(), reason="the reality kit with Bellard's files is not beside the checkout"
)
def test_bellards_own_files_are_told_and_read(tmp_path):
  for path in sorted((KIT / "bpg").glob("*.bpg")):
    facts = codec.info(path)
    chroma, bits = re.search(r"_(4\d\d)_(\d+)bit", path.name).groups()
    assert facts["chroma"].replace(":", "").startswith(chroma)
    assert facts["bits"] == bits
    codec.decode(path, tmp_path / "back.png")
    expected = np.asarray(Image.open(path.with_suffix(".png")).convert("RGB"))[None]
    assert quality.psnr(clip_files.read_clip(tmp_path / "back.png"), expected) > 45


def test_a_lossless_webp_and_an_icc_profile_are_seen():
  buffer = io.BytesIO()
  Image.fromarray(photo()[0]).save(buffer, "WEBP", lossless=True)
  assert headers.describe(buffer.getvalue(), "webp")["coding"] == "lossless"
  buffer = io.BytesIO()
  Image.fromarray(photo()[0]).save(buffer, "JPEG", icc_profile=b"profile", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
  assert headers.describe(buffer.getvalue(), "jpeg")["metadata"] == "JFIF, EXIF, ICC profile"


def test_decibels_of_equal_pictures_are_infinite():
  assert quality.psnr(photo(), photo()) == math.inf
