"""`rd`: what is asked for, what is measured once and kept, and what is written of it."""

import csv
import json
import math
import pathlib
import re

import numpy as np
import pytest
from fakes import MemorySource, ShiftCodec, photo
from PIL import Image

from robust_compress import codecs, main, rate
from robust_compress.inspect import clip_files, compare, figure, kodak, measurements, quality, rd
from robust_compress.inspect.pictures import open_pictures
from robust_compress.inspect.sweeps import Sweep, parse_levels, parse_sweeps
from robust_compress.types import CodecError, DataError, LevelError, Point, SpecError, StoreError

KODAK = pathlib.Path(__file__).parent.parent.parent / "shared" / "kit" / "kodak"
SHIFT = Point("fakes:ShiftCodec")


# ------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
  ("text", "levels"),
  [
    ("50", [50]),
    ("10,30,75", [10, 30, 75]),
    ("22..25", [22, 23, 24, 25]),
    ("25..22", [25, 24, 23, 22]),
    ("10..50:20, 75", [10, 30, 50, 75]),
    ("0.5..1.5:0.25", [0.5, 0.75, 1, 1.25, 1.5]),
  ],
)
def test_levels_as_written(text, levels):
  assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["", "ten", "1..", "..3", "1..9:0", "1..1e9", "True", "1;2"])
def test_no_levels(text):
  with pytest.raises(LevelError, match="level"):
    parse_levels(text)


def test_sweeps():
  found = parse_sweeps("jpeg, webp(method=6)@[90,10..30:10],jpeg(subsampling=444,progressive=True)@50")
  assert list(map(str, found)) == ["jpeg", "webp(method=6)", "jpeg(progressive=True,subsampling=444)"]
  assert found[0].levels == codecs.load_codec("jpeg").levels
  assert [sweep.levels for sweep in found[1:]] == [(10, 20, 30, 90), (50,)]


def test_levels_of_a_falling_ladder_run_from_low_rate_to_high():
  [sweep] = parse_sweeps("h264@[20..23]")
  assert sweep.levels == (23, 22, 21, 20)


def test_levels_for_codecs_that_name_none():
  found = parse_sweeps("jpeg,webp@7", levels="10,20")
  assert [sweep.levels for sweep in found] == [(10, 20), (7,)]


@pytest.mark.parametrize(
  ("text", "error", "words"),
  [
    ("jpg", SpecError, "did you mean 'jpeg'"),
    ("jpeg(subsamplin=444)", SpecError, "did you mean 'subsampling'"),
    ("jpeg@[0..5]", LevelError, "quality runs from 1 to 100"),
    ("jpeg@0.5bpp", LevelError, "over levels"),
    ("jpeg@10,jpeg@20", SpecError, "asked for twice"),
    ("jpeg@1@2", SpecError, "expected codec"),
    ("none", SpecError, "own originals"),
    ("", SpecError, "expected codec"),
  ],
)
def test_what_cannot_be_swept_is_told(text, error, words):
  with pytest.raises(error, match=re.escape(words)):
    parse_sweeps(text)


# ---------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def folder(tmp_path):
  """holiday/a.png and holiday/inner/b.png, both with room for MS-SSIM, and what is no picture."""
  root = tmp_path / "holiday"
  (root / "inner").mkdir(parents=True)
  (root / ".hidden").mkdir()
  for seed, name in enumerate(("a.png", "inner/b.PNG", ".hidden/c.png", ".d.png")):
    Image.fromarray(photo(168, 176, seed)[0]).save(root / name, "PNG")
  (root / "notes.txt").write_text("sunny")
  return root


def test_a_folder_is_searched_to_any_depth(folder):
  source = open_pictures(str(folder))
  assert [source.id(index) for index in range(len(source))] == ["a.png", "inner/b.PNG"]
  assert np.array_equal(source.picture(1).clip, photo(168, 176, 1))


def test_a_data_set_by_its_name():
  source = open_pictures("scenes(size=32,resize=16):test[:3]")
  assert len(source) == 3
  assert source.picture(0).clip.shape == (1, 16, 16, 3)


@pytest.mark.parametrize(("text", "words"), [("nowhere", "no folder 'nowhere'"), ("csv(path=no):all", "no folder")])
def test_what_is_not_there_is_told(text, words):
  with pytest.raises(DataError, match=re.escape(words)):
    open_pictures(text)


def test_a_folder_without_pictures(tmp_path):
  (tmp_path / "notes.txt").write_text("rain")
  with pytest.raises(DataError, match=r"no pictures and no videos in it; .* has notes\.txt"):
    open_pictures(str(tmp_path))


# --------------------------------------------------------------------------------------------- measuring


def sweep_of(*levels):
  return Sweep(SHIFT, levels)


def source_of(n=3, size=(170, 162)):
  return MemorySource([photo(*size, seed) for seed in range(n)])


def test_numbers_are_those_of_the_definitions(tmp_path):
  source = source_of()
  [curve] = rd.measure(source, [sweep_of(4)], tmp_path, progress=False)
  codec, [point] = ShiftCodec(), curve.points
  blobs = [codec.encode([clip], [4])[0].blob for clip in source.clips]
  decoded = codec.decode(blobs)
  assert point.bpp == pytest.approx(8 * sum(map(len, blobs)) / sum(clip[..., 0].size for clip in source.clips))
  assert point.psnr == pytest.approx(np.mean([quality.psnr(a, b) for a, b in zip(source.clips, decoded)]))
  assert point.ms_ssim == pytest.approx(np.mean([quality.ms_ssim(a, b) for a, b in zip(source.clips, decoded)]))
  assert (point.n, point.n_ms_ssim) == (3, 3)
  assert min(point.encode_mpixels_s, point.decode_mpixels_s) > 0


def test_nothing_is_measured_twice(tmp_path, monkeypatch):
  coded = []
  encode = ShiftCodec.encode
  monkeypatch.setattr(ShiftCodec, "encode", lambda self, clips, at: coded.extend(at) or encode(self, clips, at))
  source = source_of(2, (20, 24))
  first = rd.measure(source, [sweep_of(2, 4)], tmp_path, progress=False)
  assert sorted(coded) == [2, 2, 4, 4]
  renamed = MemorySource(source.clips, ids=["one", "two"])
  assert rd.measure(renamed, [sweep_of(2, 4)], tmp_path, progress=False) == first
  assert len(coded) == 4
  rd.measure(source_of(3, (20, 24)), [sweep_of(2, 4, 6)], tmp_path, progress=False)  # one more picture, one more level
  assert sorted(coded[4:]) == [2, 4, 6, 6, 6]


def test_another_version_of_a_codec_is_measured_anew(tmp_path, monkeypatch):
  for version in ("shift 1", "shift 2"):
    monkeypatch.setattr(ShiftCodec, "fingerprint", lambda self, version=version: version)
    rd.measure(source_of(1, (20, 24)), [sweep_of(2)], tmp_path, progress=False)
  assert len(list((tmp_path / "measured").iterdir())) == 2


def test_a_torn_or_damaged_line_is_measured_again(tmp_path):
  source, sweep = source_of(2, (20, 24)), sweep_of(2, 4)
  whole = rd.measure(source, [sweep], tmp_path, progress=False)
  [path] = (tmp_path / "measured").iterdir()
  head, first, *rest = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join([head, b"?" + first, *rest])[:-7])
  again = rd.measure(source, [sweep], tmp_path, progress=False)
  assert [point[:9] for point in again[0].points] == [point[:9] for point in whole[0].points]
  assert all(line.endswith(b"\n") for line in path.read_bytes().splitlines(keepends=True))
  assert len(path.read_bytes().splitlines()) == 6  # head, the damaged line, and four that are whole


def test_an_interrupted_run_keeps_what_it_has(tmp_path, monkeypatch):
  source = source_of(4, (20, 24))
  picture = source.picture

  def stop(index):
    if index == 3:
      raise KeyboardInterrupt
    return picture(index)

  monkeypatch.setattr(source, "picture", stop)
  with pytest.raises(KeyboardInterrupt):
    rd.measure(source, [sweep_of(2)], tmp_path, n_workers=1, progress=False)
  [path] = (tmp_path / "measured").iterdir()
  assert len(path.read_bytes().splitlines()) == 4


def test_small_pictures_count_for_psnr_alone(tmp_path):
  source = MemorySource([photo(170, 170), photo(20, 24)])
  [curve] = rd.measure(source, [sweep_of(4)], tmp_path, progress=False)
  assert (curve.points[0].n, curve.points[0].n_ms_ssim) == (2, 1)
  [curve] = rd.measure(source_of(1, (20, 24)), [sweep_of(4)], tmp_path, progress=False)
  assert math.isnan(curve.points[0].ms_ssim)
  again = rd.measure(source_of(1, (20, 24)), [sweep_of(4)], tmp_path, progress=False)  # null in the file is NaN again
  assert math.isnan(again[0].points[0].ms_ssim)


def test_clips_count_all_their_frames(tmp_path):
  for n, length in enumerate((3, 5)):
    clip_files.write_clip(tmp_path / "clips" / f"{n}.mkv", photo(48, 64, seed=n, n_frames=length))
  curves = rd.measure(open_pictures(str(tmp_path / "clips")), parse_sweeps("h264@30,jpeg@30"), tmp_path, progress=False)
  assert [(point.n, point.n_pixels) for curve in curves for point in curve.points] == [(2, 8 * 48 * 64)] * 2


def test_bad_pictures(tmp_path):
  source = MemorySource([photo(20, width) for width in (24, 32, 28)], bad=[2])
  refusing = Sweep(Point("fakes:ShiftCodec", (("refuse", 32),)), (4,))
  for workers in (1, 2):
    with pytest.raises((DataError, CodecError), match="on-bad=skip"):
      rd.measure(source, [refusing], tmp_path, n_workers=workers, progress=False)
  [curve] = rd.measure(source, [refusing], tmp_path, on_bad="skip", progress=False)
  assert curve.points[0].n == 1
  assert set(curve.skipped) == {source.ids[1], source.ids[2]}


def test_one_process_at_a_time(tmp_path, monkeypatch):
  def taken(path):
    raise StoreError(f"{path} is in use")

  monkeypatch.setattr(rd.files, "lock", taken)
  with pytest.raises(StoreError, match="in use"):
    rd.measure(source_of(1, (20, 24)), [sweep_of(4)], tmp_path, progress=False)


# ---------------------------------------------------------------------------------------- what is published


def test_published_curves_are_whole():
  assert re.fullmatch("[0-9a-f]{40}", json.loads(kodak_text())["commit"])
  for name in kodak.names():
    curve = kodak.curve(name)
    assert list(curve.bpp) == sorted(curve.bpp)
    assert len(curve.psnr) == len(curve.bpp)
    assert len(curve.ms_ssim) in (0, len(curve.bpp))
    assert len(curve.levels) in (0, len(curve.bpp))
    assert 20 < min(curve.psnr) <= max(curve.psnr) < 60
    assert not curve.ms_ssim or 0.7 < min(curve.ms_ssim) <= max(curve.ms_ssim) < 1
    assert curve.title
    assert curve.source


def kodak_text():
  import importlib.resources

  return (importlib.resources.files("robust_compress.inspect") / "kodak.json").read_text()


@pytest.mark.parametrize("ms_ssim", [(9.0, 12.0), (math.nan, math.nan)], ids=["two frames", "one frame"])
def test_all_that_is_drawn_stays_in_the_figure(ms_ssim):
  measured = compare.Line("jpeg", "JPEG", "jpeg", True, (0.2, 0.5), (25.0, 30.0), ms_ssim)
  published = compare.lines([], kodak.chosen("all", [], False))
  drawn = figure.rd_figure([measured, *published], "2 pictures")
  box = drawn.get_tightbbox()
  width, height = drawn.get_size_inches()
  assert sum(len(legend.get_texts()) for legend in drawn.legends) == 1 + len(published)
  assert 0 <= box.x0 < box.x1 <= width
  assert 0 <= box.y0 < box.y1 <= height


def test_published_curves_of_classical_codecs_rank_as_everybody_knows():
  jpeg = kodak.curve("jpeg")
  order = [rate.bd_rate(jpeg.bpp, jpeg.psnr, c.bpp, c.psnr) for c in map(kodak.curve, ("vtm", "bpg", "webp", "jpeg"))]
  assert order == sorted(order)
  assert order[-1] == pytest.approx(0)


def test_which_published_curves_are_drawn():
  assert kodak.chosen("auto", ["jpeg"], on_kodak=False) == []
  assert {curve.name for curve in kodak.chosen("auto", ["jpeg", "webp"], on_kodak=True)} == {"jpeg", "webp", "vtm"}
  assert [curve.name for curve in kodak.chosen("elic2022, vtm", [], on_kodak=False)] == ["elic2022", "vtm"]
  assert len(kodak.chosen("all", [], on_kodak=False)) == len(kodak.names())
  assert kodak.chosen("none", ["jpeg"], on_kodak=True) == []
  with pytest.raises(SpecError, match="did you mean 'vtm'"):
    kodak.chosen("vtn", [], on_kodak=True)


@pytest.mark.skipif(not KODAK.is_dir(), reason="the reality kit with Kodak's pictures is not beside the checkout")
def test_webp_on_kodak_is_as_published(tmp_path):
  """The published numbers to their last digit: rate, PSNR and MS-SSIM are computed as the field does."""
  published = kodak.curve("webp")
  [curve] = rd.measure(open_pictures(str(KODAK)), parse_sweeps("webp@5"), tmp_path, progress=False)
  [point], at = curve.points, published.levels.index(5)
  assert kodak.is_kodak(curve.contents)
  assert point.bpp == pytest.approx(published.bpp[at], abs=2e-4)
  assert point.psnr == pytest.approx(published.psnr[at], abs=2e-3)
  assert point.ms_ssim == pytest.approx(published.ms_ssim[at], abs=5e-5)


def test_other_pictures_are_not_kodaks():
  assert not kodak.is_kodak([measurements.content_of(photo())])


# ------------------------------------------------------------------------------------------ the command


def call(capsys, *arguments):
  main.main(list(map(str, arguments)))
  return capsys.readouterr().out


def test_the_command_writes_tables_and_a_figure(capsys, folder, tmp_path):
  output = tmp_path / "out"
  arguments = [
    "rd",
    "--codecs=jpeg,webp@[10,50,90]",
    "--levels=10..90:40",
    f"--pictures={folder}",
    f"--output={output}",
  ]
  printed = call(capsys, *arguments, "--published=vtm,jpeg", "--anchor=webp")
  rows = list(csv.DictReader((output / "rd.csv").open()))
  assert [row["level"] for row in rows if row["curve"] == "webp"] == ["10.0", "50.0", "90.0"]
  assert {row["curve"] for row in rows} == {"jpeg", "webp", "kodak:vtm", "kodak:jpeg"}
  [jpeg, *_] = list(csv.DictReader((output / "bd_rate.csv").open()))
  assert (jpeg["curve"], jpeg["anchor"]) == ("jpeg", "webp")
  assert Image.open(output / "rd.png").size[0] > 800
  assert "bits against webp" in printed
  assert call(capsys, *arguments, "--published=vtm,jpeg", "--anchor=webp") == printed  # all from what is kept


def test_an_anchor_may_be_published(capsys, folder, tmp_path):
  printed = call(
    capsys, "rd", "--codecs=jpeg@[10,50,90]", f"--pictures={folder}", f"--output={tmp_path}", "--anchor=kodak:vtm"
  )
  assert "bits against kodak:vtm" in printed


def test_a_lossless_point_and_small_pictures_are_drawn(capsys, monkeypatch, tmp_path):
  Image.fromarray(photo(20, 24)[0]).save(tmp_path / "a.png")
  printed = call(
    capsys, "rd", "--codecs=fakes:ShiftCodec@[4,8]", f"--pictures={tmp_path}", f"--output={tmp_path / 'out'}"
  )
  assert "∞" in printed
  assert "MS-SSIM is that of 0 of 1 pictures" in printed


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--codecs=jpg"], "did you mean 'jpeg'"),
    (["--codecs=jpeg", "--anchor=wepb"], "no anchor 'wepb'"),
    (["--codecs=jpeg", "--anchor=kodak:vtn"], "did you mean 'vtm'"),
    (["--codecs=jpeg", "--published=vtn"], "did you mean 'vtm'"),
    (["--codecs=jpeg", "--pictures=nowhere"], "no folder 'nowhere'"),
  ],
)
def test_a_wrong_command_ends_in_one_line(capsys, folder, tmp_path, arguments, words):
  with pytest.raises(SystemExit) as end:
    main.main(["rd", f"--pictures={folder}", f"--output={tmp_path / 'out'}", *arguments])
  errors = capsys.readouterr().err
  assert end.value.code == 2
  assert words in errors
  assert len(errors.splitlines()) == 1
  assert not (tmp_path / "out").exists()


def test_bd_rates_are_those_of_rate(tmp_path):
  lines = compare.lines([], [kodak.curve("jpeg"), kodak.curve("bpg"), kodak.curve("elic2022")])
  found = {one.line.key: one for one in compare.bd_rates(lines, lines[0])}
  jpeg, bpg = kodak.curve("jpeg"), kodak.curve("bpg")
  assert found["kodak:bpg"].psnr == rate.bd_rate(jpeg.bpp, jpeg.psnr, bpg.bpp, bpg.psnr)
  assert found["kodak:bpg"].ms_ssim < 0
  assert found["kodak:elic2022"].ms_ssim is None
