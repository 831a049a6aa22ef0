"""BPG: files as the specification has them, pixels as Bellard's bpgdec makes them, and every bad byte caught."""

import io
import pathlib
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robust_compress.codecs import bpg, bpg_container, bpg_fields, colour, frames, hevc_sps, load_codec, nal
from robust_compress.codecs.colour import Layout
from robust_compress.types import CodecError, LevelError, SpecError
from tests.fakes import photo

KIT = pathlib.Path(__file__).parents[2] / "shared" / "kit" / "bpg"
GOLDEN = pathlib.Path(__file__).parent / "golden" / "bpg.npz"
FAST = "superfast"


def coded(clip, level=30, **options):
  return load_codec("bpg", **{"preset": FAST, **options}).encode([clip], [level])[0].blob


def decoded(blob):
  return load_codec("bpg").decode([blob])[0]


def psnr(a, b):
  return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9))


# ------------------------------------------------------------------------------------- Bellard's programs


@pytest.mark.skipif(not KIT.is_dir(), reason=f"needs the pairs of bpgenc's files and bpgdec's pictures in {KIT}")
@pytest.mark.parametrize(
  "name", ["jctvc_420_10bit_q33", "jctvc_444_8bit_q40", "x265_420_8bit_q37", "x265_444_8bit_q30"]
)
def test_files_of_bpgenc_decode_to_the_pixels_of_bpgdec(name):
  expected = np.array(Image.open(KIT / f"{name}.png").convert("RGB"))
  [pixels] = decoded((KIT / f"{name}.bpg").read_bytes())
  if "444" in name:
    assert np.abs(pixels.astype(int) - expected).max() <= 1
  else:
    assert psnr(pixels, expected) >= 50


@pytest.mark.skipif(not shutil.which("bpgenc") or not shutil.which("bpgdec"), reason="needs bpgenc and bpgdec on PATH")
@pytest.mark.parametrize("options", [{"chroma": 420}, {"chroma": 444}, {"chroma": 420, "depth": 10}])
@pytest.mark.parametrize("shape", [(61, 93), (64, 96)])
def test_both_backends_read_each_other(shape, options):
  clip = photo(*shape)
  ours, theirs = (load_codec("bpg", backend=backend, **options) for backend in ("builtin", "libbpg"))
  for level in (20, 37):
    blobs = [codec.encode([clip], [level])[0].blob for codec in (ours, theirs)]
    for blob in blobs:
      assert np.array_equal(ours.decode([blob])[0], theirs.decode([blob])[0])
    quality = [psnr(clip, decoded(blob)) for blob in blobs]
    assert quality[0] == pytest.approx(quality[1], abs=1)
    assert len(blobs[0]) == pytest.approx(len(blobs[1]), rel=0.15)


def test_the_programs_are_asked_for_where_they_are_absent(monkeypatch):
  monkeypatch.setenv("PATH", "")
  bpg.bpg_programs.version.cache_clear()
  with pytest.raises(SpecError, match=r"bpg\(backend=libbpg\): no bpgenc and no bpgdec on PATH; install libbpg"):
    load_codec("bpg", backend="libbpg")


with np.load(GOLDEN) as _golden:
  golden = dict(_golden)


@pytest.mark.parametrize("case", sorted({key.partition("/")[0] for key in golden}))
def test_files_of_every_kind_decode_to_the_very_pixels_of_bpgdec(case):
  expected = np.array(Image.open(io.BytesIO(golden[f"{case}/png"].tobytes())))
  assert np.array_equal(decoded(golden[f"{case}/file"].tobytes())[0], expected)


def test_the_goldens_cover_the_format():
  layouts = [bpg_container.read(golden[key].tobytes()).layout for key in golden if key.endswith("/file")]
  assert {layout.chroma for layout in layouts} == {400, 420, 422, 444}
  assert {layout.depth for layout in layouts} >= {8, 10}
  assert {layout.space for layout in layouts} == set(range(len(colour.SPACES)))
  assert {layout.cosited for layout in layouts} == {layout.limited for layout in layouts} == {False, True}
  assert golden["metadata/file"][5] & 8  # has extensions
  assert golden["alpha/file"][4] & 16


# ------------------------------------------------------------------------------------------------- colour


@pytest.mark.parametrize("depth", [8, 10])
def test_colour_there_and_back_is_near_lossless(depth):
  rgb = np.random.default_rng(0).integers(0, 256, (130, 37, 3), np.uint8)
  planes = colour.to_ycbcr(rgb, depth)
  assert [plane.max() < 1 << depth for plane in planes] == [True] * 3
  back = colour.to_rgb(planes, Layout(depth, 444))
  assert np.abs(back.astype(int) - rgb).max() <= (2 if depth == 8 else 1)
  grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
  for sample in (
    colour.to_rgb([colour.to_grey(grey, depth)], Layout(depth, 400))[..., 0],
    colour.to_rgb(colour.to_ycbcr(np.repeat(grey[..., None], 3, axis=-1), depth), Layout(depth, 444))[..., 1],
  ):
    assert np.array_equal(sample, grey)


@pytest.mark.parametrize("space", range(len(colour.SPACES)))
@pytest.mark.parametrize("limited", [False, True])
def test_black_grey_and_white_are_so_in_every_space(space, limited):
  for depth in (8, 10, 12):
    step = 1 << (depth - 8)
    low, high = (16 * step, 235 * step) if limited else (0, (1 << depth) - 1)
    luma = np.array([[low, high]], np.uint16)
    neutral = luma if space == 1 else np.full_like(luma, 128 * step)
    rgb = colour.to_rgb([luma, neutral, neutral], Layout(depth, 444, space=space, limited=limited))
    assert rgb.tolist() == [[[0, 0, 0], [255, 255, 255]]]


@given(st.integers(1, 20), st.integers(1, 200), st.sampled_from([8, 10, 12]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_flat_chroma_stays_flat_through_the_filters(height, width, depth, cosited):
  value = (1 << depth) * 3 // 5
  plane = np.full((height, width), value, np.uint16)
  half = colour.halved(plane, depth)
  assert half.shape == ((height + 1) // 2, (width + 1) // 2)
  assert (half == value).all()
  for chroma in (420, 422):
    layout = Layout(depth, chroma, cosited, space=1)
    coarse = plane[: colour.chroma_shape(layout, (height, width))[0], : (width + 1) // 2]
    rgb = colour.to_rgb([plane, coarse, coarse], layout)
    assert rgb.shape == (height, width, 3)
    assert np.ptp(rgb) == 0


def test_strips_leave_no_seams():
  rng = np.random.default_rng(0)
  planes = [rng.integers(0, 256, shape, np.uint16) for shape in ((301, 9), (151, 5), (151, 5))]
  whole = colour.to_rgb(planes, Layout())
  for rows in (2, 64, 1000):
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(colour, "_ROWS", rows)
      assert np.array_equal(colour.to_rgb(planes, Layout()), whole)


# -------------------------------------------------------------------------------------------------- coding


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("chroma", [420, 444])
@pytest.mark.parametrize("shape", [(1, 1), (9, 8), (8, 70), (17, 33), (64, 64), (65, 127)])
def test_every_size_is_coded_well(shape, chroma, depth):
  clip = photo(*shape)
  blob = coded(clip, 12, chroma=chroma, depth=depth)
  contents = bpg_container.read(blob)
  assert (contents.height, contents.width) == shape
  assert contents.layout == Layout(depth, chroma)
  assert psnr(clip, decoded(blob)) > (37 if chroma == 444 else 29)  # a small one has colours that 4:2:0 cannot show


def test_444_keeps_colour_that_420_loses():
  clip = np.zeros((1, 32, 32, 3), np.uint8)
  clip[:, :, ::2] = (255, 0, 0)
  clip[:, :, 1::2] = (0, 0, 255)
  error = {chroma: psnr(clip, decoded(coded(clip, 5, chroma=chroma))) for chroma in (420, 444)}
  assert error[444] > error[420] + 10


def test_ten_bits_lose_less_than_eight():
  clip = photo(96, 96)
  assert psnr(clip, decoded(coded(clip, 0, chroma=444, depth=10))) > psnr(clip, decoded(coded(clip, 0, chroma=444)))


def test_a_grey_picture_is_coded_as_grey():
  clip = np.repeat(photo(40, 56)[..., :1], 3, axis=-1)
  blob = coded(clip, 20)
  assert bpg_container.read(blob).layout.chroma == 400
  assert np.ptp(decoded(blob), axis=-1).max() == 0
  assert psnr(clip, decoded(blob)) > 38


def test_a_still_picture_is_a_plain_file_and_a_clip_is_its_files():
  clip = photo(n_frames=3)
  files = [coded(frame[None]) for frame in clip]
  assert files[0].startswith(b"BPG\xfb")
  assert coded(clip) == frames.pack(files)


def test_the_container_adds_a_few_bytes():
  blob = coded(photo(64, 96))
  slices = [unit for unit in bpg_container.read(blob).units if unit[0] >> 1 < 32]
  assert len(blob) - sum(map(len, slices)) <= 30


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"chroma": 422}, r"bpg\(chroma=422\): expected one of 420, 444"),
    ({"depth": 12}, "expected one of 8, 10"),
    ({"preset": "ultrafast"}, "expected one of superfast"),
    ({"backend": "x265"}, "expected one of builtin, libbpg"),
  ],
)
def test_options_that_cannot_be(options, message):
  with pytest.raises(SpecError, match=message):
    load_codec("bpg", **options)


def test_levels_are_whole_quantisers():
  for level in (-1, 52, float("nan")):
    with pytest.raises(LevelError, match=r"bpg@.*: QP runs from 51 to 0"):
      load_codec("bpg").check_level(level)
  with pytest.raises(LevelError, match=r"bpg@30\.5: QP runs in whole numbers from 51 to 0"):
    load_codec("bpg").check_level(30.5)


def test_fingerprint_names_all_that_makes_bytes():
  fingerprint = load_codec("bpg", depth=10).fingerprint()
  for part in ("depth=10", "preset=veryslow", "backend=builtin", "libavcodec", "x265 (build"):
    assert part in fingerprint


# ------------------------------------------------------------------------------------- headers and damage


def _with_header(blob, flags=None, width=None, height=None, length=None, extension=None):
  """A file of `coded` with parts of its header in another form."""
  contents = bpg_container.read(blob)
  _, position = bpg_container._read_ue7(blob, 6)
  _, position = bpg_container._read_ue7(blob, position)
  n_bytes, position = bpg_container._read_ue7(blob, position)
  flags = blob[4:6] if flags is None else flags
  parts = [bpg_container.MAGIC, flags if extension is None else bytes([flags[0], flags[1] | 8])]
  parts += [_ue7(contents.width if width is None else width), _ue7(contents.height if height is None else height)]
  parts += [_ue7(n_bytes if length is None else length)]
  parts += [] if extension is None else [_ue7(len(extension)), extension]
  return b"".join([*parts, blob[position:]])


_ue7 = bpg_container._ue7


@pytest.mark.parametrize(
  ("value", "data"), [(0, "00"), (127, "7f"), (128, "8100"), (331, "824b"), (2**30 - 1, "83ffffff7f")]
)
def test_lengths_are_written_as_in_the_specification(value, data):
  assert _ue7(value) == bytes.fromhex(data)
  assert bpg_container._read_ue7(b"?" + bytes.fromhex(data) + b"!", 1) == (value, 1 + len(data) // 2)


@pytest.mark.parametrize("data", ["", "81", "8001", "ffffffffff7f", "8480808000"])
def test_lengths_that_cannot_be_are_refused(data):
  with pytest.raises(CodecError, match="no length at byte 0"):
    bpg_container._read_ue7(bytes.fromhex(data), 0)


def test_a_length_of_zero_is_all_that_follows_and_extensions_are_skipped():
  blob = coded(photo())
  expected = decoded(blob)
  exif = _ue7(1) + _ue7(3) + b"abc"
  for other in (_with_header(blob, length=0), _with_header(blob, extension=exif), blob + b"more behind it"):
    assert np.array_equal(decoded(other), expected)


def test_an_alpha_plane_is_left_out():
  clip = photo()
  colours, alpha = bpg_container.read(coded(clip)), bpg_container.read(coded(np.zeros_like(clip)))
  units = [unit for pair in zip(alpha.units, colours.units, strict=True) for unit in pair]
  units[::2] = [unit[:1] + bytes([unit[1] | 1 << 3]) + unit[2:] for unit in units[::2]]  # nuh_layer_id 1
  fields = [bpg_fields.write(contents.coding) for contents in (alpha, colours)]
  data = b"".join(_ue7(len(field)) + field for field in fields) + nal.join(units)[4:]
  header = bpg_container.MAGIC + b"\x30\x00" + _ue7(64) + _ue7(48) + _ue7(len(data))
  assert np.array_equal(decoded(header + data), decoded(coded(clip)))


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("c000", "pixel format 6 in colour space 0 does not exist"),
    ("2050", "pixel format 1 in colour space 5 does not exist"),
    ("0010", "pixel format 0 in colour space 1 does not exist"),
    ("2600", "14 bits a sample; expected one of 8, 9, 10, 12"),
    ("2001", "an animation; expected one picture"),
    ("2004", "premultiplied alpha or CMYK"),
    ("3004", "premultiplied alpha or CMYK"),
  ],
)
def test_what_is_not_read_says_so(flags, message):
  with pytest.raises(CodecError, match=f"bpg: {message}"):
    decoded(_with_header(coded(photo()), bytes.fromhex(flags)))


@pytest.mark.parametrize(("width", "height"), [(2**30 - 1, 2**30 - 1), (89_478_486, 1), (1, 0), (0, 7)])
def test_a_bomb_is_refused_by_its_header(width, height, monkeypatch):
  monkeypatch.setattr(bpg, "decode_frame", lambda contents: pytest.fail("reached the decoder"))
  with pytest.raises(CodecError, match=r"bpg: .* (over the limit|holds no pixel)"):
    decoded(_with_header(coded(photo()), width=width, height=height))


def test_another_size_than_the_coded_one_is_an_error_or_a_picture_of_that_size():
  """Slices do not say how large the picture is: a decoder finds out when they end too soon, or it conceals the rest."""
  blob = coded(photo(64, 64))
  for width, height in ((64, 56), (8, 8), (640, 480), (16, 2000)):
    try:
      clip = decoded(_with_header(blob, width=width, height=height))
    except CodecError:
      continue
    assert clip.shape == (1, height, width, 3)


def test_two_pictures_or_none_are_refused():
  contents = bpg_container.read(coded(photo()))
  fields = bpg_fields.write(contents.coding)
  header = bpg_container.MAGIC + b"\x20\x00" + _ue7(64) + _ue7(48) + _ue7(0) + _ue7(len(fields)) + fields
  for units in ([], contents.units[:1], contents.units[1:], [*contents.units, contents.units[1]]):
    with pytest.raises(CodecError, match="pictures in"):
      decoded(header + nal.join(units)[4:])


@pytest.mark.parametrize(
  "change",
  [
    {"log2_block_range": 4},
    {"log2_min_block": 3, "log2_block_range": 0},
    {"log2_min_transform": 3},
    {"log2_transform_range": 4},
    {"intra_depth": 5},
    {"range_extension": 0b000100000},
    {"pcm": bpg_fields.Pcm(9, 8, 3, 1, False)},
    {"pcm": bpg_fields.Pcm(8, 8, 3, 3, False)},
  ],
)
def test_fields_that_cannot_be_are_refused_before_a_decoder_sees_them(change):
  coding = bpg_container.read(coded(photo())).coding
  bpg_fields.check(coding, 8)
  with pytest.raises(CodecError, match="is not possible"):
    bpg_fields.check(coding._replace(**change), 8)


@pytest.mark.parametrize("pcm", [None, bpg_fields.Pcm(8, 7, 4, 1, True)])
@pytest.mark.parametrize("range_extension", [None, 0b111000010])
@pytest.mark.parametrize("chroma", [400, 420, 444])
def test_fields_survive_the_file_and_the_sps(chroma, range_extension, pcm):
  coding = bpg_fields.Coding(3, 3, 2, 3, 2, True, pcm, True, range_extension)
  assert bpg_fields.read(bpg_fields.write(coding)) == coding
  assert hevc_sps.from_sps(hevc_sps.sps(coding, (48, 64), chroma, 8), chroma, 8) == ((48, 64), coding)
  with pytest.raises(CodecError, match="bit_depth_luma_minus8 = 0; a BPG file of this picture needs 2"):
    hevc_sps.from_sps(hevc_sps.sps(coding, (48, 64), chroma, 8), chroma, 10)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_a_codec_error_or_a_picture_of_the_declared_size(data):
  chroma, depth = data.draw(st.sampled_from([(420, 8), (444, 10)]))
  blob = bytearray(coded(photo(24, 40), chroma=chroma, depth=depth))
  n_header = data.draw(st.sampled_from([20, len(blob)]))  # headers are short, and most of the trouble
  for _ in range(data.draw(st.integers(1, 4))):
    blob[data.draw(st.integers(4, n_header - 1))] = data.draw(st.integers(0, 255))
  try:
    contents = bpg_container.read(bytes(blob))
    if contents.height * contents.width > 10**6:
      return
    clip, message = decoded(bytes(blob)), ""
  except CodecError as error:
    clip, message = None, str(error)
  assert message.startswith("bpg: ") if clip is None else clip.shape == (1, contents.height, contents.width, 3)
