"""Codecs of the extras: named where they are absent, tested where they are there."""

import importlib.util
import io
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from robust_compress.codecs import canonical_point, frames, load_codec, optional
from robust_compress.main import main
from robust_compress.types import CodecError, SpecError
from tests.fakes import photo


def needs(module):
  absent = importlib.util.find_spec(module) is None
  return pytest.mark.skipif(absent, reason=f"{module} is not installed; it is an extra")


@pytest.mark.parametrize(
  ("codec", "module", "message"),
  [
    ("jxl", "pillow_jxl", r"jxl needs pillow-jxl-plugin \(.*\); pip install 'robust-compress\[jxl\]'"),
    ("heic", "pillow_heif", r"heic needs pillow-heif \(.*\); pip install 'robust-compress\[heic\]'"),
    ("jpeg(backend=imagecodecs)", "imagecodecs", r"needs imagecodecs \(.*\); pip install 'robust-compress\[fast\]'"),
  ],
)
def test_without_its_library_a_codec_names_the_extra(monkeypatch, codec, module, message):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(SpecError, match=message):
    load_codec(codec)
  with pytest.raises(SpecError, match=message):
    canonical_point(f"{codec}@50")


def test_without_beam_a_runner_names_the_extra(monkeypatch, tmp_path, capsys):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  config = pathlib.Path(__file__).with_name("tiny_study.py")
  with pytest.raises(SystemExit, match="2"):
    main(["compress", f"--config={config}", f"--workdir={tmp_path / 'new'}", "--runner=DirectRunner", "--more=options"])
  assert "--runner needs apache-beam" in capsys.readouterr().err
  assert not (tmp_path / "new").exists()


def test_options_out_of_range_name_the_range():
  for codec, message in [
    ("jxl(effort=10)", r"jxl\(effort=10\): expected one of 1, 2, 3"),
    ("heic(chroma=422)", r"heic\(chroma=422\): expected one of 420, 444"),
    ("jpeg(backend=turbo)", r"jpeg\(backend=turbo\): expected one of pillow, imagecodecs"),
  ]:
    with pytest.raises(SpecError, match=message):
      load_codec(codec)


# ----------------------------------------------------------------------------------------------- JPEG XL


def jxl_header(height, width, ratio=0, signature=b"\xff\x0a"):
  """The start of a codestream that declares a size, as the standard writes it."""

  def side(length):
    if length % 8 == 0 and length <= 256 and width % 8 == 0 and width <= 256:
      return [(length // 8 - 1, 5)]
    return [(3, 2), (length - 1, 30)]

  in_eights = len(side(height)) == 1
  fields = [(int(in_eights), 1), *side(height), (ratio, 3), *([] if ratio else side(width))]
  bits, at = 0, 0
  for value, n_bits in fields:
    bits, at = bits | value << at, at + n_bits
  return signature + bits.to_bytes(16, "little")


@pytest.mark.parametrize("size", [(1, 1), (8, 256), (16, 24), (37, 53), (70_000, 3), (2**30, 2**30)])
def test_the_size_of_a_jxl_file_is_read_from_its_header(size):
  assert optional.jxl_size(jxl_header(*size)) == size
  boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
  assert optional.jxl_size(boxes + b"\0\0\1\0jxlc" + jxl_header(*size)) == size
  assert optional.jxl_size(boxes + b"\0\0\1\0jxlp\0\0\0\0" + jxl_header(*size)) == size


@pytest.mark.parametrize(("ratio", "width"), [(1, 600), (2, 720), (3, 800), (4, 900), (5, 1066), (6, 750), (7, 1200)])
def test_a_width_may_be_a_ratio(ratio, width):
  assert optional.jxl_size(jxl_header(600, 1, ratio)) == (600, width)


@pytest.mark.parametrize("file", [b"", b"\xff", b"\0\0\0\x0cJXL \r\n\x87\n" * 9, b"\0\0\0\0jxll" * 5])
def test_a_file_without_a_codestream_is_refused(file):
  with pytest.raises(CodecError, match="no codestream is in them"):
    optional.jxl_size(file)


@needs("pillow_jxl")
def test_jxl_declares_what_is_coded_and_a_bomb_is_refused_unopened(monkeypatch):
  codec = load_codec("jxl")
  for height, width in [(1, 1), (16, 24), (37, 53), (48, 64), (300, 500)]:
    [coded] = codec.encode([photo(height, width)], [50])
    assert coded.blob[:2] == b"\xff\x0a"
    assert optional.jxl_size(coded.blob) == (height, width)
  monkeypatch.setattr(Image, "open", None)
  with pytest.raises(CodecError, match=r"\[1, 1073741824, 1073741824, 3\] is over the limit"):
    codec.decode([jxl_header(2**30, 2**30)])


@needs("pillow_jxl")
def test_more_effort_is_another_point():
  assert str(canonical_point("jxl(effort=7)@50")) == "jxl@50"
  assert "pillow-jxl-plugin" in load_codec("jxl(effort=3)").fingerprint()
  assert load_codec("jxl(effort=3)").fingerprint() != load_codec("jxl").fingerprint()


@needs("pillow_heif")
def test_heic_files_are_heic_and_444_keeps_colour():
  clip = np.zeros((1, 32, 32, 3), np.uint8)
  clip[:, :, ::2], clip[:, :, 1::2] = (255, 0, 0), (0, 0, 255)
  error = {}
  for chroma in (420, 444):
    codec = load_codec("heic", chroma=chroma)
    [coded] = codec.encode([clip], [95])
    assert coded.blob[4:12] == b"ftypheic" or coded.blob[4:8] == b"ftyp"
    error[chroma] = np.square(clip.astype(float) - codec.decode([coded.blob])[0]).mean()
  assert error[444] < error[420] / 4


# ------------------------------------------------------------------------------------------- faster JPEG


@needs("imagecodecs")
@pytest.mark.parametrize("options", [{}, {"subsampling": 444}, {"optimize": True}])
def test_faster_jpeg_has_the_bytes_and_the_pixels_of_jpeg(options):
  plain, fast = load_codec("jpeg", **options), load_codec("jpeg", backend="imagecodecs", **options)
  for seed, (height, width, n_frames) in enumerate([(1, 1, 1), (7, 9, 1), (48, 64, 3), (333, 257, 1)]):
    clip = photo(height, width, seed, n_frames)
    for level in (1, 10, 50, 75, 95, 100):
      [slow], [quick] = plain.encode([clip], [level]), fast.encode([clip], [level])
      assert quick.blob == slow.blob
      assert np.array_equal(fast.decode([slow.blob])[0], plain.decode([slow.blob])[0])
  mirrored = photo()[:, :, ::-1]
  assert fast.encode([mirrored], [50]) == plain.encode([mirrored], [50])


@needs("imagecodecs")
def test_faster_jpeg_reads_what_jpeg_reads():
  plain, fast = load_codec("jpeg"), load_codec("jpeg(backend=imagecodecs)")
  picture = Image.fromarray(photo()[0])
  for mode, options in [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": "4:2:2"})]:
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "JPEG", **options)
    blob = buffer.getvalue()
    assert np.array_equal(fast.decode([blob])[0], plain.decode([blob])[0])
  for damaged in (b"", b"\xff\xd8\xff\xd9", blob[:-10], blob[:300] + b"\xff\xd9"):
    with pytest.raises(CodecError, match="jpeg: "):
      fast.decode([damaged])


@needs("imagecodecs")
def test_the_backend_is_an_option_of_its_own():
  assert str(canonical_point("jpeg(backend=pillow)@50")) == "jpeg@50"
  assert "imagecodecs" in load_codec("jpeg(backend=imagecodecs)").fingerprint()
  with pytest.raises(SpecError, match="writes no progressive files"):
    load_codec("jpeg(backend=imagecodecs,progressive=True)")


def test_the_fingerprint_of_plain_jpeg_says_nothing_of_backends():
  assert load_codec("jpeg").fingerprint().startswith("jpeg(optimize=False,progressive=False,subsampling=420), pillow ")
  assert "backend" not in load_codec("jpeg(backend=pillow)").fingerprint()
  assert frames.MAX_PIXELS == 89_478_485
