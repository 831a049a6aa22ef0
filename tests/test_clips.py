"""Clips in files: the frames that FFmpeg's own reading gives, those alone that were asked for, and errors that help."""

import contextlib
import functools
import io
import os
import shutil
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from fakes import photo
from PIL import Image

from robust_compress.data import image_ops, raw_video, sources, video_files
from robust_compress.data.frame_folders import FrameFiles
from robust_compress.data.raw_video import Layout, RawFile, Y4mFile
from robust_compress.data.video_files import VideoFile
from robust_compress.types import DataError, SpecError, View

N = 30
CLIP = photo(36, 52, n_frames=N)
KINDS = {  # file name: encoder, pixel format, options
  "b_frames.mp4": ("libx264", "yuv420p", {"g": "8", "bf": "3", "preset": "fast"}),
  "open_gop.mkv": ("libx265", "yuv420p", {"x265-params": "keyint=8:min-keyint=8:open-gop=1:log-level=none:pools=1"}),
  "hidden.webm": ("libvpx-vp9", "yuv444p", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}),
  "intra.mov": ("mjpeg", "yuvj422p", {}),
  "no_times.avi": ("mpeg4", "yuv420p", {"g": "8", "bf": "2"}),
  "stream.ts": ("libx264", "yuv420p", {"g": "8"}),
  "annex_b.h264": ("libx264", "yuv420p", {"g": "8"}),
}


def write_video(path, clip=CLIP, encoder="ffv1", pixel_format="bgr0", options=None):
  with av.open(str(path), "w") as container:
    stream = container.add_stream(encoder, rate=Fraction(25), options=options or {})
    stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pixel_format
    stream.codec_context.thread_count = 1
    for frame in clip:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode())
  return path


def decoded(path):
  """Every frame, by PyAV from the beginning to the end."""
  with av.open(str(path)) as container:
    frames = container.decode(video=0)
    return np.stack([frame.to_ndarray(format="rgb24", interpolation=Interpolation.BICUBIC) for frame in frames])


def choosing(*wanted):
  return lambda n_frames: wanted


def every(n_frames):
  return range(n_frames)


def png(picture):
  stream = io.BytesIO()
  Image.fromarray(picture).save(stream, "PNG")
  return stream.getvalue()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  for name, kind in KINDS.items():
    write_video(folder / name, CLIP, *kind)
  return folder


# ------------------------------------------------------------------------------------------- video files


@pytest.mark.parametrize("name", KINDS)
def test_any_frames_are_those_of_a_whole_reading(kinds, name):
  expected, video = decoded(kinds / name), VideoFile(kinds / name)
  assert len(expected) == N
  np.testing.assert_array_equal(video.frames(every), expected)
  for wanted in ([0], [7], [N - 1], [3, 4, 20], [8, 16, 24], [4, 7, 10, 13, 16, 19, 22, 25]):
    np.testing.assert_array_equal(video.frames(choosing(*wanted)), expected[wanted], err_msg=str(wanted))


def test_without_loss_frames_are_the_pixels_that_went_in(tmp_path):
  np.testing.assert_array_equal(VideoFile(write_video(tmp_path / "a.mkv")).frames(every), CLIP)


@pytest.mark.parametrize(("name", "most"), [("b_frames.mp4", 12), ("intra.mov", 4)])
def test_no_more_is_decoded_than_is_needed(kinds, monkeypatch, name, most):
  taken, converted = [], []
  take, to_rgb = video_files._Taken.take, video_files.to_rgb
  monkeypatch.setattr(video_files._Taken, "take", lambda self, *frame: taken.append(frame) or take(self, *frame))
  monkeypatch.setattr(video_files, "to_rgb", lambda *frame: converted.append(frame) or to_rgb(*frame))
  VideoFile(kinds / name).frames(choosing(18, 20))
  assert len(converted) == 2
  assert len(taken) <= most


def test_a_seek_that_misses_is_made_up_for(kinds, monkeypatch):
  """By reading from the beginning: here every seek goes to the last key frame."""
  monkeypatch.setattr(video_files, "_key_before", lambda times, shown: int(times.keys[-1]))
  path = kinds / "b_frames.mp4"
  np.testing.assert_array_equal(VideoFile(path).frames(choosing(2, 9)), decoded(path)[[2, 9]])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program on PATH")
def test_pixels_are_those_of_the_ffmpeg_program(kinds, tmp_path):
  command = "ffmpeg -v error -i {} -fps_mode passthrough -pix_fmt rgb24 -f rawvideo -"
  for clip in (*(VideoFile(kinds / name) for name in KINDS), Y4mFile(y4m(tmp_path / "a.y4m", CLIP, "yuv420p"))):
    made = subprocess.run(command.format(clip.path).split(), capture_output=True, check=True).stdout
    expected = np.frombuffer(made, np.uint8).reshape(CLIP.shape)
    np.testing.assert_array_equal(clip.frames(every), expected, err_msg=clip.path.name)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program on PATH")
def test_frames_that_an_edit_cut_off_are_not_counted(kinds, tmp_path):
  """They stand in the file, because those that are shown need them."""
  path = tmp_path / "edited.mp4"
  command = f"ffmpeg -v error -ss 0.3 -i {kinds / 'b_frames.mp4'} -c copy {path}"
  subprocess.run(command.split(), check=True)
  expected = decoded(path)
  assert len(expected) < N
  np.testing.assert_array_equal(VideoFile(path).frames(every), expected)
  np.testing.assert_array_equal(VideoFile(path).frames(choosing(0, 9)), expected[[0, 9]])


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_a_data_error_or_a_clip(kinds, tmp_path, name):
  rng, path = np.random.default_rng(0), tmp_path / name
  for trial in range(25):
    data = bytearray((kinds / name).read_bytes())
    for place in rng.integers(0, len(data) if trial % 2 else 200, 8):
      data[place] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    with contextlib.suppress(DataError):
      clip = VideoFile(path).frames(every)
      assert clip.dtype == np.uint8
      assert clip.ndim == 4


def test_a_changed_file_is_read_anew(tmp_path):
  path = write_video(tmp_path / "a.mkv", CLIP[:5])
  assert len(VideoFile(path).frames(every)) == 5
  write_video(path, CLIP[:9])
  assert len(VideoFile(path).frames(every)) == 9


def test_many_threads_read_one_file(kinds):
  from concurrent.futures import ThreadPoolExecutor

  video = VideoFile(kinds / "b_frames.mp4")
  expected = video.frames(every)
  with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda i: video.frames(choosing(i)), list(range(N)) * 2))
  np.testing.assert_array_equal(np.concatenate(found), np.concatenate([expected] * 2))


@pytest.mark.parametrize("name", ["open_gop.mkv", "hidden.webm", "no_times.avi", "intra.mov"])
def test_a_file_that_has_not_what_it_promises_is_named(kinds, tmp_path, name):
  data, path = (kinds / name).read_bytes(), tmp_path / name
  for keep in (0.2, 0.5, 0.8, 0.95):
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match=rf"{name}: .*(cut short|unreadable or truncated)"):
      VideoFile(path).frames(every)


@pytest.mark.parametrize(("keep", "message"), [(0.6, "cut short"), (0.02, "is it cut short"), (0, "unreadable")])
def test_a_file_that_is_cut_short_is_named(tmp_path, keep, message):
  options = {"g": "8", "preset": "fast"}
  path = tmp_path / "a.mp4"
  with av.open(str(path), "w", container_options={"movflags": "faststart"}) as container:
    stream = container.add_stream("libx264", rate=25, options=options)
    stream.height, stream.width, stream.pix_fmt = 36, 52, "yuv420p"
    for frame in CLIP:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode())
  path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
  with pytest.raises(DataError, match=rf"a\.mp4: .*{message}"):
    VideoFile(path).frames(every)


@pytest.mark.parametrize(
  "text",
  ["no video at all", "ffconcat version 1.0\nfile secret.mkv\n", "#EXTM3U\n#EXTINF:10,\nsecret.mkv\n"],
)
def test_what_is_no_video_leads_nowhere(tmp_path, text):
  write_video(tmp_path / "secret.mkv", CLIP[:3])
  path = tmp_path / "a.mp4"
  path.write_text(text)
  with pytest.raises(DataError, match=r"a\.mp4: unreadable"):
    VideoFile(path).frames(every)
  with pytest.raises(DataError, match=r"b\.mp4: unreadable"):
    VideoFile(tmp_path / "b.mp4").frames(every)


def test_frames_of_several_sizes_are_refused(tmp_path):
  """Streams of two sizes behind each other, as a camera that is turned makes them."""
  parts = [
    write_video(tmp_path / f"{i}.h264", photo(*size, n_frames=4), *KINDS["annex_b.h264"])
    for i, size in enumerate(((32, 48), (48, 32)))
  ]
  path = tmp_path / "a.h264"
  path.write_bytes(b"".join(part.read_bytes() for part in parts))
  with pytest.raises(DataError, match=r"a\.h264: frame 4 is 32x48, not 48x32"):
    VideoFile(path).frames(every)


def test_sound_alone_is_no_video(tmp_path):
  with av.open(str(tmp_path / "a.mkv"), "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
  with pytest.raises(DataError, match=r"a\.mkv: no video in it"):
    VideoFile(tmp_path / "a.mkv").frames(every)


def test_too_many_pixels_are_refused_before_they_are_decoded(kinds, monkeypatch):
  monkeypatch.setattr(image_ops, "MAX_PIXELS", 36 * 52 * 10)
  video = VideoFile(kinds / "b_frames.mp4")
  assert len(video.frames(choosing(*range(10)))) == 10
  with pytest.raises(DataError, match=r"b_frames\.mp4: 11 frames of 52x36 pixels; at most 18720 .* length and stride"):
    video.frames(choosing(*range(11)))


# --------------------------------------------------------------------------------------------- raw video

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv444p12le"]


def y4m(path, clip, pixel_format):
  with av.open(str(path), "w", format="yuv4mpegpipe", options={"strict": "-1"}) as container:
    stream = container.add_stream("wrapped_avframe", rate=25)
    stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pixel_format
    for frame in clip:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)))
  return path


@pytest.mark.parametrize("size", [(36, 52), (35, 51)])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_y4m_as_ffmpeg_reads_it(tmp_path, pixel_format, size):
  path = y4m(tmp_path / "a.y4m", photo(*size, n_frames=6), pixel_format)
  expected = decoded(path)
  np.testing.assert_array_equal(Y4mFile(path).frames(every), expected)
  np.testing.assert_array_equal(Y4mFile(path).frames(choosing(1, 5)), expected[[1, 5]])
  samples = b"".join(part[part.index(b"\n") + 1 :] for part in path.read_bytes().split(b"FRAME")[1:])
  raw = RawFile(tmp_path / "a.yuv", Layout(*size, pixel_format))
  raw.path.write_bytes(samples)
  if len(samples) == 6 * raw.layout.n_bytes:  # the samples may hold 'FRAME' too
    np.testing.assert_array_equal(raw.frames(every), expected)


@pytest.mark.parametrize("pixel_format", raw_video.FORMATS)
def test_every_raw_format_has_the_size_that_ffmpeg_gives_it(pixel_format):
  frame = av.VideoFrame.from_ndarray(photo(35, 51)[0], format="rgb24").reformat(format=pixel_format)
  encoder = av.CodecContext.create("rawvideo", "w")
  encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 35, 51, pixel_format, Fraction(1, 25)
  [packet] = encoder.encode(frame)
  assert Layout(35, 51, pixel_format).n_bytes == packet.size


def test_full_range_is_told_from_limited(tmp_path):
  clips = {}
  for tag in ("", " XCOLORRANGE=FULL", " XCOLORRANGE=LIMITED"):
    path = tmp_path / "a.y4m"
    path.write_bytes(f"YUV4MPEG2 W2 H2 F25:1 C444{tag}\nFRAME\n".encode() + bytes([16] * 4 + [128] * 8))
    clips[tag] = Y4mFile(path).frames(every)
  assert clips[" XCOLORRANGE=FULL"].min() == 16
  assert not clips[""].any()
  assert not clips[" XCOLORRANGE=LIMITED"].any()
  raw = RawFile(tmp_path / "a.yuv", Layout(2, 2, "yuvj444p"))
  raw.path.write_bytes(bytes([16] * 4 + [128] * 8))
  np.testing.assert_array_equal(raw.frames(every), clips[" XCOLORRANGE=FULL"])


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "expected a header at byte 0"),
    (b"YUV4MPEG2 W4 H4\n", "a video without a frame"),
    (b"YUV4MPEG2 W4 H4" + b" X" * 2000, "expected a header at byte 0"),
    (b"YUV4MPEG3 W4 H4\n", "not a y4m file"),
    (b"YUV4MPEG2 W0 H4\n", "not a y4m file"),
    (b"YUV4MPEG2 W4 H-4\n", "not a y4m file"),
    (b"YUV4MPEG2 W4\n", "not a y4m file"),
    (b"YUV4MPEG2 W4 H4 C420p99\n", "samples of the kind '420p99'"),
    (b"YUV4MPEG2 W4 H4\nFRAME\n" + bytes(23), "cut short; its last frame has 23 of 24 bytes"),
    (b"YUV4MPEG2 W4 H4\nFRAME\n" + bytes(24) + b"GAME!\n" + bytes(24), "expected a frame at byte 46"),
    (b"YUV4MPEG2 W999999 H999999\nFRAME\n" + bytes(24), "cut short"),
  ],
)
def test_a_wrong_y4m_is_explained(tmp_path, data, message):
  path = tmp_path / "a.y4m"
  path.write_bytes(data)
  with pytest.raises(DataError, match=rf"a\.y4m: .*{message}"):
    Y4mFile(path).frames(every)


def test_raw_samples_that_do_not_fit_are_explained(tmp_path):
  (tmp_path / "clips").mkdir()
  (tmp_path / "clips/a.yuv").write_bytes(bytes(100))
  source = sources.open_source("yuv(path=clips,width=8,height=8):all", tmp_path)
  with pytest.raises(DataError, match=r"a\.yuv: 100 bytes are no whole number of frames of 96, as 8x8 in yuv420p has"):
    source.picture(0)
  for options, message in (
    ("", "needs the size of its frames"),
    (",width=8,height=x", "needs the size of its frames"),
    (",width=8,height=8,format=yuv420x", "no format of raw video 'yuv420x'; did you mean 'yuv420p'"),
    (",width=8,height=8,fps=25", "no option of yuv 'fps'"),
  ):
    with pytest.raises(SpecError, match=message):
      sources.open_source(f"yuv(path=clips{options}):all", tmp_path)
  with pytest.raises(DataError, match="at most"):
    sources.open_source("yuv(path=clips,width=1000000,height=1000000):all", tmp_path)


# ------------------------------------------------------------------------------------- folders of clips


def folders_of_videos(data_dir, split="val"):
  """data/sport/val/{run,swim}/{0,1}.mkv and one y4m."""
  for name, n in ((name, n) for name in ("swim", "run") for n in range(2)):
    path = data_dir / "sport" / split / name / f"{n}.mkv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, photo(16, 24, seed=n + 2 * (name == "swim"), n_frames=6 + n))
  y4m(data_dir / "sport" / split / "run" / "2.y4m", photo(16, 24, n_frames=4), "yuv444p")


@pytest.fixture
def data_dir(tmp_path):
  folders_of_videos(tmp_path / "data")
  return tmp_path / "data"


def test_class_folders_of_videos(data_dir):
  source = sources.open_source("videos(path=sport):val", data_dir)
  assert source.classes == ("run", "swim")
  assert [source.id(i) for i in range(len(source))] == [f"run/{n}" for n in ("0.mkv", "1.mkv", "2.y4m")] + [
    "swim/0.mkv",
    "swim/1.mkv",
  ]
  assert [int(source.target(i)["label"]) for i in range(5)] == [0, 0, 0, 1, 1]
  picture = source.picture(4)
  np.testing.assert_array_equal(picture.clip, photo(16, 24, seed=3, n_frames=7))
  assert picture.n_bytes == (data_dir / "sport/val/swim/1.mkv").stat().st_size
  assert picture.n_pixels == 7 * 16 * 24
  part = sources.open_source("videos(path=sport):val[3:]", data_dir)
  assert [part.id(i) for i in range(len(part))] == ["swim/0.mkv", "swim/1.mkv"]
  assert int(part.target(0)["label"]) == 1


def test_a_flat_folder_has_no_labels(data_dir):
  source = sources.open_source("videos(path=sport/val/run):all", data_dir)
  assert (len(source), source.classes, source.target(0), source.id(0)) == (3, (), {}, "0.mkv")
  shutil.move(data_dir / "sport/val/swim/0.mkv", data_dir / "sport/val/alone.mkv")
  with pytest.raises(DataError, match=r"val has clips \(alone\.mkv\) and folders of clips \(run/0\.mkv\)"):
    sources.open_source("videos(path=sport):val", data_dir)


@pytest.mark.parametrize(
  ("data", "error", "message"),
  [
    ("videos(path=sports):val", DataError, "no folder .*sports; .* has sport"),
    ("videos(path=sport):test", DataError, "no split 'test' in .*sport; .* has val"),
    ("videos(path=sport):all", DataError, "no clips in .*sport nor in its folders; .* has val"),
    ("videos(path=../data/sport):val", DataError, "leads out of"),
    ("videos(pth=sport):val", SpecError, "no option of videos 'pth'; did you mean 'path'"),
    ("frames(path=sport):val", DataError, "no clips in .*val nor in its folders"),
    ("frames(path=sport,naming=city):val", SpecError, "no naming of frames 'city'; did you mean 'cityscapes'"),
    ("frames(path=sport,naming=cityscapes):val", DataError, "nothing named as Cityscapes'"),
  ],
)
def test_what_is_wrong_is_said(data_dir, data, error, message):
  with pytest.raises(error, match=message):
    sources.open_source(data, data_dir)


@pytest.mark.parametrize("place", ["val/run/link.mkv", "val/link", "test"])
def test_links_stay_inside(data_dir, tmp_path, place):
  outside = tmp_path / "outside"
  outside.mkdir()
  write_video(outside / "secret.mkv", CLIP[:2])
  (data_dir / "sport" / place).symlink_to(outside / "secret.mkv" if place.endswith("mkv") else outside)
  with pytest.raises(DataError, match="leads out of"):
    sources.open_source(f"videos(path=sport):{'test' if place == 'test' else 'val'}", data_dir)


def test_fingerprint_tells_what_can_change_a_number(data_dir, tmp_path):
  open_val = functools.partial(sources.open_source, "videos(path=sport):val", data_dir)
  first = open_val().fingerprint()
  moved = shutil.copytree(data_dir, tmp_path / "elsewhere")
  assert sources.open_source("videos(path=sport):val", moved).fingerprint() == first
  fingerprints = {first, sources.open_source("videos(path=sport):val[:4]", data_dir).fingerprint()}
  for view in (View(length=4), View(length=3), View(length=3, stride=2), View(stride=2), View(crop=8)):
    fingerprints.add(sources.ViewedSource(open_val(), view).fingerprint())
  assert sources.ViewedSource(open_val(), View(frames=1)).fingerprint() == first  # how a model is fed is no part of it
  path = data_dir / "sport/val/run/0.mkv"
  data = bytearray(path.read_bytes())
  data[-20] ^= 1
  path.write_bytes(data)
  os.utime(path, ns=(1, 1))
  fingerprints.add(open_val().fingerprint())
  path.rename(path.with_name("00.mkv"))
  fingerprints.add(open_val().fingerprint())
  assert len(fingerprints) == 9


def test_large_files_are_fingerprinted_in_part(tmp_path):
  (tmp_path / "clips").mkdir()
  path = tmp_path / "clips/a.yuv"
  path.write_bytes(bytes(96 * 100_000))
  data = "yuv(path=clips,width=8,height=8):all"
  fingerprints = {sources.open_source(data, tmp_path).fingerprint()}
  for position in (10, path.stat().st_size - 10):
    with path.open("r+b") as stream:
      stream.seek(position)
      stream.write(b"\1")
    fingerprints.add(sources.open_source(data, tmp_path).fingerprint())
  fingerprints.add(sources.open_source("yuv(path=clips,width=4,height=16):all", tmp_path).fingerprint())
  assert len(fingerprints) == 4


# ------------------------------------------------------------------------------------ folders of frames


def frame_folder(folder, clip, name="{}.png"):
  folder.mkdir(parents=True, exist_ok=True)
  for index, frame in enumerate(clip):
    (folder / name.format(index)).write_bytes(png(frame))


@pytest.mark.parametrize("classes", [True, False])
def test_folders_of_frames(tmp_path, classes):
  clip = photo(12, 16, n_frames=12)
  for name in ("b", "a"):
    frame_folder(tmp_path / "sets/val" / ("jump" if classes else "") / name, clip, "frame_{}.png")
    (tmp_path / "sets/val" / ("jump" if classes else "") / name / "notes.txt").write_text("none")
  source = sources.open_source("frames(path=sets):val", tmp_path)
  ids = [source.id(i) for i in range(2)]
  assert (ids, source.classes) == ((["jump/a", "jump/b"], ("jump",)) if classes else (["a", "b"], ()))
  picture = source.picture(0)
  np.testing.assert_array_equal(picture.clip, clip)  # frame_2 before frame_10
  assert picture.n_bytes == sum(len(png(frame)) for frame in clip)
  assert ("label" in source.target(0)) == classes


def test_frames_that_are_not_wanted_are_not_read(tmp_path):
  clip = photo(12, 16, n_frames=12)
  frame_folder(tmp_path / "sets/a", clip)
  source = sources.open_source("frames(path=sets):all", tmp_path)
  for index in (0, 1, 11):
    (tmp_path / f"sets/a/{index}.png").write_bytes(b"damaged")
  viewed = sources.ViewedSource(source, View(length=4, stride=2))
  np.testing.assert_array_equal(viewed.picture(0).clip, clip[[2, 4, 6, 8]])
  assert viewed.picture(0).n_bytes is None
  with pytest.raises(DataError, match=r"0\.png: unreadable"):
    source.picture(0)


def test_a_frame_that_is_missing_damaged_or_of_another_size_is_named(tmp_path):
  frame_folder(tmp_path / "a", photo(12, 16, n_frames=4))
  clip = FrameFiles(tuple(tmp_path / f"a/{index}.png" for index in range(4)))
  (tmp_path / "a/2.png").write_bytes(png(photo(16, 12)[0]))
  with pytest.raises(DataError, match=r"2\.png: the frame is 12x16, and those before it are 16x12"):
    clip.frames(every)
  (tmp_path / "a/1.png").unlink()
  with pytest.raises(DataError, match=r"1\.png: cannot be read"):
    clip.frames(every)


@pytest.fixture
def cityscapes(tmp_path):
  """A city of short sequences, and one whose numbers run on, with two snippets that follow each other."""
  numbered = {"lindau_000003": range(30), "lindau_000001": range(30)}
  numbered |= {"frankfurt_000001": [*range(275, 305), *range(557, 617)]}
  for sequence, numbers in numbered.items():
    folder = tmp_path / "leftImg8bit_sequence/val" / sequence.partition("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
      (folder / f"{sequence}_{number:06d}_leftImg8bit.png").write_bytes(png(np.full((4, 8, 3), number % 256, np.uint8)))
  return tmp_path


def test_cityscapes_sequences_are_snippets_around_their_labelled_frames(cityscapes):
  data = "frames(path=leftImg8bit_sequence,naming=cityscapes,length=8,stride=3,crop=4):val"
  source = sources.open_source(data, cityscapes)
  assert [source.id(i) for i in range(len(source))] == [
    "frankfurt/frankfurt_000001_000294",
    "frankfurt/frankfurt_000001_000576",
    "frankfurt/frankfurt_000001_000606",
    "lindau/lindau_000001_000019",
    "lindau/lindau_000003_000019",
  ]
  assert (source.classes, source.target(0), len(source.picture(1).clip)) == ((), {}, 30)
  viewed = sources.ViewedSource(source, View(length=8, stride=3, crop=4))
  clip = viewed.picture(3).clip
  assert clip.shape == (8, 4, 4, 3)
  assert clip[:, 0, 0, 0].tolist() == [4, 7, 10, 13, 16, 19, 22, 25]
  assert viewed.picture(0).clip[5, 0, 0, 0] == 294 % 256  # the labelled one


def test_a_snippet_that_lacks_frames_is_told(cityscapes):
  (cityscapes / "leftImg8bit_sequence/val/lindau/lindau_000003_000012_leftImg8bit.png").unlink()
  with pytest.raises(DataError, match="lindau_000003: frames 0 to 11 are 12; a snippet of Cityscapes has 30"):
    sources.open_source("frames(path=leftImg8bit_sequence,naming=cityscapes):val", cityscapes)


# ------------------------------------------------------------------------------------------------ TFDS


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared(request, tmp_path_factory):
  """TFDS sets of our own: of videos with a class, and of grey ones without."""
  import tensorflow_datasets as tfds

  class Moves(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    features: tuple = (("video", (None, 12, 16, 3)), ("label", ("hop", "skip")))

    def _info(self):
      known = {
        "video": lambda shape: tfds.features.Video(shape),
        "label": lambda names: tfds.features.ClassLabel(names=names),
      }
      made = {name: known[name](value) for name, value in self.features}
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(made))

    def _split_generators(self, dl_manager):
      return {"test": self._generate_examples()}

    def _generate_examples(self):
      for n in range(5):
        video = photo(12, 16, seed=n, n_frames=6 + n)
        example = {"video": video if len(self.features) > 1 else video[..., :1], "label": n % 2}
        yield n, {name: example[name] for name, _ in self.features}

  class GreyMoves(Moves, skip_registration=True):
    features = (("video", (None, 12, 16, 1)),)

  data_dir = tmp_path_factory.mktemp(request.param)
  for builder in (Moves, GreyMoves):
    builder(data_dir=data_dir, file_format=request.param).download_and_prepare()
  return data_dir


def test_tfds_videos(prepared):
  source = sources.open_source("moves:test", prepared)
  assert (len(source), source.classes, source.id(2)) == (5, ("hop", "skip"), "test-00000002")
  for index in range(5):
    picture = source.picture(index)
    seed = len(picture.clip) - 6  # TFDS has an order of its own
    np.testing.assert_array_equal(picture.clip, photo(12, 16, seed=seed, n_frames=6 + seed))
    assert int(source.target(index)["label"]) == seed % 2
    assert picture.n_bytes == sum(len(frame) for frame in source.read(index))
    viewed = sources.ViewedSource(source, View(length=3, stride=2)).picture(index)
    np.testing.assert_array_equal(viewed.clip, picture.clip[(1 + seed) // 2 :][:5:2])
  part = sources.open_source("moves:test[1:3]", prepared)
  np.testing.assert_array_equal(part.picture(1).clip, source.picture(2).clip)
  assert part.fingerprint() != source.fingerprint() == sources.open_source("moves:test", prepared).fingerprint()


def test_tfds_videos_without_a_class(prepared):
  source = sources.open_source("grey_moves:test", prepared)
  picture = source.picture(0).clip
  assert (source.classes, source.target(0), picture.shape[1:]) == ((), {}, (12, 16, 3))
  assert (picture == picture[..., :1]).all()
