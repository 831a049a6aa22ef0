"""The video codecs: against the ffmpeg program, what stands in a blob, and what damage does to it."""

import pickle
import shutil
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robust_compress.codecs import canonical_point, check_level, ladder, load_codec, nal, video_frames, video_stream
from robust_compress.specs import parse_point
from robust_compress.types import CodecError, LevelError, SpecError
from tests.fakes import photo

NAMES = ("h264", "hevc", "av1", "vp9")
every_codec = pytest.mark.parametrize("name", NAMES)
SHORT = {"h264": 30, "hevc": 30, "av1": 40, "vp9": 40}


def coded(point, clip):
  point = parse_point(point)
  return load_codec(point).encode([clip], [point.level])[0].blob


def decoded(name, blob):
  return load_codec(name).decode([blob])[0]


def slices(stream):
  return [unit for unit in nal.split(stream) if unit[0] & 31 in (1, 5)]


# ----------------------------------------------------------------------------------- the ffmpeg program

needs_ffmpeg = pytest.mark.skipif(
  shutil.which("ffmpeg") is None, reason="no ffmpeg program on PATH to compare with (apt-get install ffmpeg)"
)
REICH = "-preset medium -g 8 -qp {} -flags +cgop+mv4 -mbtree 0 -aq-mode 0 -b_strategy 0 -psy 0"
COMMANDS = [  # (point, options of the program, size)
  ("h264@0", REICH.format(0), (48, 64)),
  ("h264@20", REICH.format(20), (47, 61)),
  ("h264@37", REICH.format(37), (96, 80)),
  ("h264@51", REICH.format(51), (48, 64)),
  ("h264(chroma=420)@30", REICH.format(30) + " -pix_fmt yuv420p", (48, 64)),
  ("h264(mode=crf)@23", "-crf 23 -pix_fmt yuv420p", (96, 80)),
  ("h264(mode=crf)@40", "-crf 40 -pix_fmt yuv420p", (48, 64)),
  ("h264(mode=crf)@30", "-crf 30 -pix_fmt yuv420p", (64, 128)),
  (
    'h264(mode=crf,preset=fast,extra="bf=1 refs=2")@30',
    "-crf 30 -preset fast -bf 1 -refs 2 -pix_fmt yuv420p",
    (64, 64),
  ),
]


def ffmpeg(*arguments):
  subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def pictures_of(video, folder, n_frames):
  """What the program makes of a video, uint8[t h w 3]."""
  ffmpeg("-i", video, folder / "out_%d.png")
  paths = [folder / f"out_{index}.png" for index in range(1, n_frames + 1)]
  assert not (folder / f"out_{n_frames + 1}.png").exists()
  return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


@needs_ffmpeg
@pytest.mark.parametrize(("point", "options", "size"), COMMANDS)
@pytest.mark.parametrize("n_frames", [1, 8, 11])
def test_pixels_and_slices_are_those_of_the_program(point, options, size, n_frames, tmp_path):
  clip = photo(*size, n_frames=n_frames)
  for index, pixels in enumerate(clip, 1):
    Image.fromarray(pixels).save(tmp_path / f"frame_{index:010d}.png")
  video, stream = tmp_path / "video.mp4", tmp_path / "video.h264"
  code = load_codec(point).settings.get("x264-params")
  same_code = ("-x264-params", code) if code and size[1] % 128 else ()  # elsewhere the program's own is at fault
  ffmpeg("-i", tmp_path / "frame_%10d.png", "-threads", "1", *options.split(), *same_code, video)
  ffmpeg("-i", video, "-c", "copy", "-bsf:v", "h264_mp4toannexb", stream)
  blob = coded(point, clip)
  assert slices(video_stream.unpack(blob, "h264")[1]) == slices(stream.read_bytes())
  assert np.array_equal(decoded("h264", blob), pictures_of(video, tmp_path, n_frames))


def file_of(name, blob):
  """(suffix, bytes) of a file that other programs play."""
  header, stream = video_stream.unpack(blob, name)
  if name != "vp9":
    return {"h264": ".h264", "hevc": ".hevc", "av1": ".obu"}[name], stream
  ivf = struct.pack("<4sHH4sHHIII4x", b"DKIF", 0, 32, b"VP90", header.width, header.height, 25, 1, header.n_frames)
  packets = video_stream.split(name, stream)
  return ".ivf", ivf + b"".join(struct.pack("<IQ", len(data), t) + data for t, data in enumerate(packets))


@needs_ffmpeg
@pytest.mark.parametrize(
  "point", ["h264@30", "hevc@30", "hevc(chroma=444)@30", "av1@40", "vp9@40", "vp9(chroma=444)@40"]
)
def test_the_program_decodes_our_streams_to_our_pixels(point, tmp_path):
  name, clip = parse_point(point).codec, photo(80, 96, n_frames=5)
  blob = coded(point, clip)
  suffix, stream = file_of(name, blob)
  (tmp_path / f"clip{suffix}").write_bytes(stream)
  assert np.array_equal(decoded(name, blob), pictures_of(tmp_path / f"clip{suffix}", tmp_path, 5))


# ------------------------------------------------------------------------------------------------- blobs


@every_codec
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 33, 200), (8, 64, 64), (130, 2, 3)])
def test_the_header_is_short_and_says_what_there_is(name, shape):
  clip = np.zeros((*shape, 3), np.uint8)
  blob = load_codec(name).encode([clip], [SHORT[name]])[0].blob
  header, stream = video_stream.unpack(blob, name)
  assert header == (name, shape[2], shape[1], shape[0], 25)
  assert len(blob) - len(stream) <= 12


@given(st.tuples(*[st.integers(1, 2**27)] * 3))
def test_no_size_within_the_limit_makes_a_long_header(sizes):
  width, height, n_frames = sizes
  height = min(height, max(1, 2**26 // width))
  n_frames = min(n_frames, max(1, 2**26 // (width * height)))
  if width * height * n_frames <= 89_478_485:
    header = video_stream.Header("vp9", width, height, n_frames, 25)
    assert len(video_stream.pack(header, b"")) <= 12
    assert video_stream.unpack(video_stream.pack(header, b"stream"), "vp9") == (header, b"stream")


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_streams_have_parameter_sets_and_no_letter(name):
  _, stream = video_stream.unpack(coded(f"{name}@30", photo(n_frames=3)), name)
  assert video_stream.letter(name, stream) == ""
  assert b"x26" not in stream
  kinds = [unit[0] & 31 if name == "h264" else unit[0] >> 1 & 63 for unit in nal.split(stream)]
  assert kinds[: 2 if name == "h264" else 3] == ([7, 8] if name == "h264" else [32, 33, 34])


@every_codec
@pytest.mark.parametrize("n_frames", [1, 2, 8, 20])
def test_streams_divide_into_one_packet_a_frame(name, n_frames):
  _, stream = video_stream.unpack(coded(f"{name}@{SHORT[name]}", photo(n_frames=n_frames)), name)
  packets = video_stream.split(name, stream)
  assert video_stream.join(name, packets) == stream
  assert len(packets) == n_frames


@every_codec
def test_frames_keep_their_order(name):
  """Every frame comes back nearest to itself."""
  clip = np.stack([np.roll(photo(64, 64)[0], 7 * t, axis=1) for t in range(10)])
  out = decoded(name, coded(f"{name}@{SHORT[name] - 15}", clip)).astype(float)
  distance = np.array([[np.abs(a - b).mean() for b in clip] for a in out])
  assert distance.argmin(axis=1).tolist() == list(range(10))


@every_codec
@pytest.mark.parametrize("mode", ["qp", "crf"])
def test_streams_do_not_depend_on_what_memory_held(name, mode):
  """x264 and x265 both have code that reads what nobody wrote, at some sizes; they are called so as to avoid it."""
  rng, codec, held = np.random.default_rng(0), load_codec(name, mode=mode), []
  for size in ((48, 48), (64, 64), (64, 80), (112, 144)):
    clip, blobs = photo(*size, n_frames=8), set()
    for _ in range(4):
      held[:] = [rng.bytes(n) for n in rng.integers(1, 100_000, 50)][::2]
      blobs.add(codec.encode([clip], [SHORT[name]])[0].blob)
    assert len(blobs) == 1


@pytest.mark.parametrize("name", ["h264", "hevc", "vp9"])
def test_444_keeps_colour_that_420_loses(name):
  clip = np.zeros((2, 64, 64, 3), np.uint8)
  clip[:, :, ::2] = (255, 0, 0)
  clip[:, :, 1::2] = (0, 0, 255)
  full, half = (decoded(name, coded(f"{name}(chroma={chroma})@5", clip)) for chroma in (444, 420))
  assert np.abs(full.astype(int) - clip).mean() < 0.2 * np.abs(half.astype(int) - clip).mean()


def test_a_blob_decodes_whatever_the_options_of_the_codec_at_hand():
  blob = coded("h264(mode=crf,preset=fast)@30", photo(33, 47, n_frames=2))
  assert np.array_equal(decoded("h264", blob), decoded("h264(mode=crf)", blob))


# --------------------------------------------------------------------------------------- levels and options


@pytest.mark.parametrize(
  ("point", "message"),
  [
    ("h264@52", r"h264@52: QP runs from 0 to 51"),
    ("h264@-1", r"h264@-1: QP runs from 0 to 51"),
    ("h264@20.5", r"h264@20.5: QP runs in whole numbers from 0 to 51"),
    ("h264(mode=crf)@51.5", r"CRF runs from 0 to 51"),
    ("hevc@60", r"hevc@60: QP runs from 0 to 51"),
    ("av1@0", r"av1@0: QP runs from 1 to 63"),
    ("vp9(mode=crf)@64", r"vp9@64: CRF runs from 0 to 63"),
  ],
)
def test_levels_out_of_range_name_the_range(point, message):
  with pytest.raises(LevelError, match=message):
    canonical_point(point)


@pytest.mark.parametrize(
  ("point", "canonical"),
  [
    ("h264(chroma=444,mode=qp)@30", "h264@30"),
    ("h264(chroma=420)@30", "h264(chroma=420)@30"),
    ("h264(chroma=420,mode=crf)@23", "h264(mode=crf)@23"),
    ("h264(chroma=444,mode=crf)@23.5", "h264(chroma=444,mode=crf)@23.5"),
    ("hevc(chroma=420,preset=medium)@0.1bpp", "hevc@0.1bpp"),
    ('vp9(extra="tune=ssim",speed=1)@40', 'vp9(extra="tune=ssim")@40'),
  ],
)
def test_options_that_say_nothing_are_left_out(point, canonical):
  assert str(canonical_point(point)) == canonical


@pytest.mark.parametrize(
  ("codec", "message"),
  [
    ("h264(mode=cbr)", r"h264\(mode=cbr\): expected one of qp, crf"),
    ("h264(chroma=422)", r"h264\(chroma=422\): expected one of 420, 444"),
    ("hevc(preset=fastest)", r"expected one of ultrafast, .*placebo"),
    ("av1(chroma=444)", "no option of av1 'chroma'; there are: extra, mode, preset"),
    ("av1(preset=14)", "expected one of 0, 1"),
    ("vp9(speed=True)", "expected one of 0, 1"),
    ('h264(extra="bframe=0")', "libx264 has no option 'bframe'"),
    ('hevc(extra="qcomp=1 nonsense=1")', "libx265 has no option .*'nonsense'"),
    ('av1(extra="cpu-used=1")', "libsvtav1 has no option 'cpu-used'"),
    ('vp9(extra="x264-params=a")', "libvpx-vp9 has no option 'x264-params'"),
    ('h264(extra="x264-params=nonsense=1")', "in x264-params FFmpeg ignores what x264 does not know"),
    ('h264(mode=crf,extra="x264opts=nonsense=1")', "in x264opts FFmpeg ignores"),
    ('h264(extra="profile=best")', "refuses 64x64 pixels with .*profile=best"),
    ("h264(extra=fast)", "'fast' is not of the form key=value"),
    ('h264(extra="qp=3")', "'qp' is set by the codec"),
    ('av1(extra="threads=2")', "'threads' is set by the codec"),
  ],
)
def test_options_that_cannot_be_are_refused(codec, message):
  with pytest.raises(SpecError, match=message):
    load_codec(codec)


def test_every_setting_is_one_that_the_encoder_knows():
  for codec in map(load_codec, (*NAMES, *(f"{name}(mode=crf)" for name in NAMES))):
    context = codec.open_encoder(64, 64, codec.levels[3])
    assert context.options == {}
    assert context.thread_count == 1


@every_codec
def test_a_crf_is_not_a_qp(name):
  clip = photo(64, 64, n_frames=8)
  level = SHORT[name]
  assert coded(f"{name}@{level}", clip) != coded(f"{name}(mode=crf)@{level}", clip)
  fingerprints = {load_codec(f"{name}{options}").fingerprint() for options in ("", "(mode=crf)", "(preset=3)")[:2]}
  assert len(fingerprints) == 2


def test_the_ladders_hold_what_the_papers_used():
  assert set(load_codec("h264(mode=crf)").levels) >= {23, 25, 30, 40, 50}
  levels, is_continuous = ladder(load_codec("h264"))
  assert list(levels) == list(range(51, -1, -1))
  assert not is_continuous
  check_level(load_codec("h264(mode=crf)"), 23.5)


def test_fingerprints_name_the_libraries():
  for name in NAMES:
    assert "libavcodec" in load_codec(name).fingerprint()
  assert "x264 core" in load_codec("h264").fingerprint()
  assert "x265 (build" in load_codec("hevc").fingerprint()


@every_codec
def test_codecs_travel_to_other_processes(name):
  codec, clip = load_codec(name, mode="crf"), photo(48, 80)
  assert pickle.loads(pickle.dumps(codec)).encode([clip], [30]) == codec.encode([clip], [30])


def test_a_clip_that_the_encoder_refuses_is_an_error_of_the_codec():
  with pytest.raises(CodecError, match=r"refuses 20000x2 pixels"):
    coded("h264@51", np.zeros((1, 2, 20_000, 3), np.uint8))


# ------------------------------------------------------------------------------------------------ bad input


def resealed(name, stream, **changes):
  """A blob whose checksum is right, whatever its stream and header say."""
  header = video_stream.Header(name, 64, 48, 4, 25)._replace(**changes)
  return video_stream.pack(header, stream)


@pytest.fixture(scope="module")
def streams():
  return {name: video_stream.unpack(coded(f"{name}@{SHORT[name]}", photo(n_frames=4)), name)[1] for name in NAMES}


@every_codec
def test_every_flipped_bit_is_seen(name):
  blob = coded(f"{name}@{SHORT[name]}", photo(16, 16))
  for position in range(8 * len(blob)):
    damaged = bytearray(blob)
    damaged[position // 8] ^= 1 << position % 8
    with pytest.raises(CodecError, match=name):
      decoded(name, bytes(damaged))


@every_codec
@settings(max_examples=250)
@given(data=st.data())
def test_a_decoder_survives_damage_that_no_checksum_sees(name, streams, data):
  stream, kind = bytearray(streams[name]), data.draw(st.sampled_from(["flip", "cut", "splice", "drop", "repeat"]))
  start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(stream) - 1)] * 2)))
  if kind == "flip":
    for at in data.draw(st.lists(st.integers(0, len(stream) - 1), min_size=1, max_size=8)):
      stream[at] = data.draw(st.integers(0, 255))
  elif kind == "cut":
    del stream[start:]
  elif kind == "splice":
    stream[start:end] = data.draw(st.binary(max_size=64))
  elif kind == "drop":
    del stream[start:end]
  else:
    stream[end:end] = stream[start:end]
  try:
    clip = decoded(name, resealed(name, bytes(stream)))
  except CodecError:
    return
  assert (clip.shape, clip.dtype) == ((4, 48, 64, 3), np.uint8)


@every_codec
@pytest.mark.parametrize(
  "changes", [{"n_frames": 3}, {"n_frames": 5}, {"n_frames": 10_000}, {"height": 90}, {"width": 2000}]
)
def test_a_header_that_is_not_of_its_stream_is_refused(name, streams, changes):
  with pytest.raises(CodecError, match=r"declares|expected"):
    decoded(name, resealed(name, streams[name], **changes))


@every_codec
def test_frames_lost_or_doubled_are_noticed(name, streams):
  packets = video_stream.split(name, streams[name])
  for other in (packets[:-1], packets[1:], [*packets, packets[0]], [*packets, *packets], []):
    with pytest.raises(CodecError, match=name):
      decoded(name, resealed(name, video_stream.join(name, other)))


@every_codec
def test_huge_declared_sizes_are_refused_before_they_are_made(name, streams):
  for changes in ({"width": 2**31}, {"n_frames": 2**30}, {"width": 0}, {"height": 2**15, "width": 2**15}):
    with pytest.raises(CodecError, match=r"over the limit|holds no pixel"):
      decoded(name, resealed(name, streams[name], **changes))


@every_codec
def test_a_stream_larger_than_its_header_makes_no_large_frames(name):
  big = video_stream.unpack(
    load_codec(name).encode([np.zeros((1, 1024, 1024, 3), np.uint8)], [SHORT[name]])[0].blob, name
  )
  with pytest.raises(CodecError, match=name):
    decoded(name, resealed(name, big[1], n_frames=1))


def test_a_blob_of_another_codec_is_refused():
  blob = coded("h264@30", photo())
  with pytest.raises(CodecError, match="not a clip of this codec"):
    decoded("hevc", blob)
  with pytest.raises(CodecError, match="0 bytes are not a clip of this codec"):
    decoded("h264", b"")


def test_smallest_sizes_are_padded_and_cut_back():
  size = video_frames.padded_size(1, 65, "yuv420p", 16)
  assert size == (16, 66)
  clip = photo(1, 65, n_frames=2)
  padded = video_frames.pad(clip, size)
  assert padded.shape == (2, 16, 66, 3)
  assert np.array_equal(padded[:, :1, :65], clip)
  assert np.array_equal(padded[:, 5, 65], clip[:, 0, 64])
