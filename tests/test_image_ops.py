"""Geometry against torchvision's own output (tests/golden/make_image_ops.py); decoding against what files can be."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from fakes import photo
from golden import image_ops_cases as cases
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from robust_compress.data import geometry_ops, image_ops
from robust_compress.data.geometry_ops import Geometry, whole
from robust_compress.types import DataError, InputSpec, SpecError, View

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "image_ops.npz")


class Replay:
  """A generator that draws what torchvision drew."""

  def __init__(self, draws):
    self.draws = iter(draws)

  def uniform(self, low, high):
    return next(self.draws)

  def integers(self, low, high):
    drawn = next(self.draws)
    assert low <= drawn < high
    return drawn


def encoded(image, format="PNG", **options):
  stream = io.BytesIO()
  image.save(stream, format, **options)
  return stream.getvalue()


def bomb(width, height):
  """A PNG of a few bytes that declares width x height pixels."""

  def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


# -------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("index", range(len(cases.CASES)))
def test_resize_and_crop_equal_torchvision(index):
  _, size, interpolation, crop = cases.CASES[index]
  view = View(resize=size, crop=crop, interpolation=interpolation)
  made = image_ops.apply_view(cases.picture(index)[None], view)
  np.testing.assert_array_equal(made[0], GOLDEN[f"transformed_{index}"])


@pytest.mark.parametrize("index", [i for i, case in enumerate(cases.CASES) if isinstance(case[3], int) and case[1]])
def test_input_geometry_equals_the_view_of_the_same_numbers(index):
  _, size, interpolation, crop = cases.CASES[index]
  made = image_ops.to_input(cases.picture(index)[None], InputSpec((crop, crop), size, interpolation), View())
  np.testing.assert_array_equal(made, GOLDEN[f"transformed_{index}"])


@pytest.mark.parametrize("number", range(len(cases.SHAPES)))
def test_random_boxes_equal_torchvision_given_its_draws(number):
  for draws, expected in zip(GOLDEN[f"draws_{number}"], GOLDEN[f"boxes_{number}"], strict=True):
    assert geometry_ops.random_box(cases.SHAPES[number], Replay(draws), cases.SCALE, cases.RATIO) == tuple(expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32))
def test_random_crop_is_inside_and_of_its_size(height, width, seed):
  rng = np.random.default_rng(seed)
  top, left, h, w = geometry_ops.random_box((height, width), rng, (0.08, 1), (3 / 4, 4 / 3))
  assert 0 <= top <= top + h <= height
  assert 0 <= left <= left + w <= width
  assert h > 0 < w
  geometry = geometry_ops.random_resized_crop((height, width), rng, (7, 9), (0.08, 1), (3 / 4, 4 / 3))
  made = image_ops.apply(photo(height, width), geometry, "bilinear")
  assert made.shape == (1, 7, 9, 3)


def test_all_frames_of_a_clip_are_treated_alike():
  clip = np.repeat(photo(40, 60), 3, axis=0)
  made = image_ops.apply_view(clip, View(resize=32, crop=24))
  assert made.shape == (3, 24, 24, 3)
  assert (made == made[:1]).all()
  mirror = Geometry(whole((40, 60)), (40, 60), whole((40, 60)), mirrored=True)
  np.testing.assert_array_equal(image_ops.apply(image_ops.apply(clip, mirror, ""), mirror, ""), clip)


def test_asis_feeds_the_view_untouched():
  clip = photo(20, 30)
  np.testing.assert_array_equal(image_ops.to_input(clip, InputSpec((8, 8), 10), View(input="asis")), clip[0])


def test_a_sliver_is_not_blown_up():
  with pytest.raises(DataError, match="2000x1 resized to 512"):
    image_ops.resize(photo(1, 2000), 512, "bicubic")


def test_unknown_interpolation():
  with pytest.raises(SpecError, match="cubic"):
    image_ops.resize(photo(), 8, "cubic")


# -------------------------------------------------------------------------------------------- decoding


def test_plain_colour():
  picture = photo()[0]
  made = image_ops.decode_picture(encoded(Image.fromarray(picture)), "a.png")
  assert made.shape == (1, *picture.shape)
  assert made.dtype == np.uint8
  np.testing.assert_array_equal(made[0], picture)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_what_pillow_says_is_rgb(mode):
  image = Image.fromarray(photo()[0]).convert(mode)
  data = encoded(image, "TIFF")
  with Image.open(io.BytesIO(data)) as stored:
    expected = np.asarray(stored.convert("RGB"))
  np.testing.assert_array_equal(image_ops.decode_picture(data, "a.tif")[0], expected)


def test_alpha_is_dropped_without_compositing():
  picture = np.dstack([photo()[0], np.zeros((48, 64), np.uint8)])
  made = image_ops.decode_picture(encoded(Image.fromarray(picture, "RGBA")), "a.png")
  np.testing.assert_array_equal(made[0], picture[..., :3])


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bits_keep_their_upper_8(format):
  values = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
  made = image_ops.decode_picture(encoded(Image.fromarray(values), format), "a")
  np.testing.assert_array_equal(made[0], np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_exif_does_not_rotate():
  exif = Image.Exif()
  exif[0x0112] = 6  # a viewer would turn it by 90 degrees
  data = encoded(Image.fromarray(photo(20, 30)[0]), "JPEG", exif=exif)
  assert image_ops.decode_picture(data, "a.jpg").shape == (1, 20, 30, 3)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_file_is_named(format):
  data = encoded(Image.fromarray(photo()[0]), format)
  ImageFile.LOAD_TRUNCATED_IMAGES = True  # as another library may have left it
  with pytest.raises(DataError, match=r"holiday.pic.*truncated"):
    image_ops.decode_picture(data[: len(data) * 2 // 3], "holiday.pic")


@pytest.mark.parametrize("data", [b"", b"not a picture", bytes(1000)])
def test_no_picture_is_named(data):
  with pytest.raises(DataError, match=r"a\.jpg: unreadable"):
    image_ops.decode_picture(data, "a.jpg")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_is_a_data_error_or_a_picture(data):
  """Whatever bytes change, nothing but DataError comes out."""
  blob = bytearray(
    encoded(Image.fromarray(photo(16, 16)[0]), data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"])))
  )
  for _ in range(3):
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
  try:
    made = image_ops.decode_picture(bytes(blob), "a")
  except DataError:
    return
  assert made.ndim == 4
  assert made.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(13_378, 13_378), (40_000, 40_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_before_it_is_decoded(width, height, monkeypatch):
  monkeypatch.setattr(image_ops, "_to_rgb", lambda image: pytest.fail("decoded"))
  with pytest.raises(DataError, match=r"bomb\.png.*at most 178956970 pixels"):
    image_ops.decode_picture(bomb(width, height), "bomb.png")


@settings(max_examples=50)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 9))
def test_zoomed_crops_have_their_size_whatever_the_picture(height, width, seed):
  geometry = geometry_ops.random_zoomed_crop((height, width), np.random.default_rng(seed), (24, 32), (1.0, 2.5))
  made = image_ops.apply(photo(height, width), geometry, "bicubic")
  assert made.shape == (1, 24, 32, 3)


def test_a_crop_without_zoom_is_cut_and_not_resized():
  picture = photo(60, 80)
  geometry = geometry_ops.random_zoomed_crop((60, 80), np.random.default_rng(3), (24, 32), (1.0, 1.0))
  made = image_ops.apply(picture, geometry, "bicubic")
  windows = np.lib.stride_tricks.sliding_window_view(picture[0], (24, 32, 3))[..., 0, :, :, :]
  assert (windows == made[0]).all((2, 3, 4)).any()
