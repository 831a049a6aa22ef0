"""`audit`: qualities from tables, traces of earlier compression, and what is said of a data set."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
from fakes import MemorySource
from PIL import Image

from robust_compress import main
from robust_compress.data import sources
from robust_compress.inspect import audit, audit_report, audit_summary, jpeg_header, recompression
from robust_compress.inspect.pictures import open_pictures
from robust_compress.types import CodecError, DataError, View


def jpeg(frame, quality, **options):
  buffer = io.BytesIO()
  Image.fromarray(frame).save(buffer, "JPEG", quality=quality, **options)
  return buffer.getvalue()


def decoded(data):
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def scenes(n, size=256):
  source = sources.open_source(f"scenes(size={size}):test[:{n}]")
  return [source.picture(index).clip[0] for index in range(n)]


# ----------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("quality", range(1, 101))
def test_quality_is_read_from_the_tables(quality):
  header = jpeg_header.parse(jpeg(np.zeros((8, 8, 3), np.uint8), quality))
  assert [tuple(found) for found in jpeg_header.qualities(header)] == [(quality, 0)] * 2


def test_tables_of_others_get_the_nearest_quality():
  tables = [np.clip(jpeg_header.ijg_tables(name)[79] + 1, 1, 255) for name in ("luminance", "chrominance")]
  buffer = io.BytesIO()
  Image.new("RGB", (8, 8)).save(buffer, "JPEG", qtables=[table.ravel().tolist() for table in tables])
  data = buffer.getvalue()
  luma, chroma = jpeg_header.qualities(jpeg_header.parse(data))
  assert 76 <= luma.level <= 80
  assert 0 < luma.error < 15
  assert chroma.error > 0


def test_a_table_that_is_all_ones_is_quality_100():
  assert jpeg_header.quality_of(np.ones((8, 8), int)) == (100, 0)


@pytest.mark.parametrize(("option", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_subsampling(option, name):
  header = jpeg_header.parse(jpeg(np.zeros((24, 40, 3), np.uint8), 75, subsampling=option))
  assert (header.subsampling, header.width, header.height, header.depth) == (name, 40, 24, 8)


def test_grey_cmyk_and_progressive():
  assert jpeg_header.parse(jpeg(np.zeros((8, 8), np.uint8), 75)).subsampling == "grey"
  buffer = io.BytesIO()
  Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
  assert jpeg_header.parse(buffer.getvalue()).subsampling == "CMYK"
  assert jpeg_header.parse(jpeg(np.zeros((8, 8, 3), np.uint8), 75, progressive=True)).process == "progressive"


def test_any_bytes_are_a_header_or_an_error():
  data = jpeg(scenes(1, 64)[0], 75)
  rng = np.random.default_rng(0)
  for cut in range(0, 700, 7):
    parsed(data[:cut])
  for _ in range(400):
    damaged = bytearray(data[:700])
    for at in rng.integers(2, 640, 3):
      damaged[at] = rng.integers(256)
    parsed(bytes(damaged))


def parsed(data):
  with contextlib.suppress(CodecError):
    header = jpeg_header.parse(data)
    assert header.subsampling
    jpeg_header.qualities(header)


# ------------------------------------------------------------------------------------------------ traces

PAIRS = ((50, 75), (60, 90), (75, 95), (70, 80))


def traced(data):
  header = jpeg_header.parse(data)
  return recompression.trace(audit.luma_of(data, "picture"), header.table_of(0))


@pytest.fixture(scope="module")
def pictures():
  return scenes(7)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_compressions_are_told_and_the_first_quality_found(pictures, first, second):
  found = [traced(jpeg(decoded(jpeg(frame, first)), second)) for frame in pictures]
  told = [one.quality for one in found if one.quality is not None]
  assert len(told) >= len(found) - 1
  assert np.median(np.abs(np.array(told) - first)) <= 2


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
def test_one_compression_is_not_taken_for_two(pictures, quality):
  assert [traced(jpeg(frame, quality)).quality for frame in pictures] == [None] * len(pictures)


def test_the_same_quality_twice_leaves_no_trace(pictures):
  assert all(traced(jpeg(decoded(jpeg(frame, 75)), 75)).quality is None for frame in pictures)


@pytest.mark.parametrize("quality", [40, 90])
def test_a_bitmap_that_was_jpeg_is_told(pictures, quality):
  weights = np.array([0.299, 0.587, 0.114])
  found = [recompression.trace(decoded(jpeg(frame, quality)) @ weights).quality for frame in pictures]
  assert sum(one is not None and abs(one - quality) <= 2 for one in found) >= len(found) - 1
  assert all(recompression.trace(frame @ weights).quality is None for frame in pictures)


def test_what_is_too_small_or_saturated_cannot_be_told():
  rng = np.random.default_rng(0)
  assert recompression.trace(rng.uniform(20, 200, (150, 150))) is None
  assert recompression.trace(np.full((400, 400), 255.0)) is None
  assert recompression.trace(rng.uniform(20, 200, (8, 9000))) is None


# ---------------------------------------------------------------------------------------------- data sets


@pytest.fixture
def folder(tmp_path, pictures):
  """Four JPEG files of quality 75, two of which were 50 before; a PNG, one that was JPEG, and a broken file."""
  root = tmp_path / "set"
  root.mkdir()
  for n, frame in enumerate(pictures[:4]):
    (root / f"{n}.jpg").write_bytes(jpeg(decoded(jpeg(frame, 50)) if n < 2 else frame, 75))
  Image.fromarray(pictures[4]).save(root / "plain.png")
  Image.fromarray(decoded(jpeg(pictures[5], 60))).save(root / "once.png")
  (root / "broken.jpg").write_bytes(jpeg(pictures[6], 75)[:300])
  return root


def test_a_summary(folder):
  source = open_pictures(str(folder))
  found = audit.audit(source, progress=False)
  summary = audit_summary.summarise(found, "set", len(source))
  assert [one.id for one in found] == sorted(path.name for path in folder.iterdir())
  assert (summary.n, summary.n_read, summary.n_unreadable) == (7, 6, 1)
  assert summary.formats == {"JPEG": 4, "PNG": 2}
  assert summary.qualities == (75, 75, 75)
  assert summary.histogram == {"75-79": 4}
  assert summary.subsampling == {"4:2:0": 4}
  assert (summary.n_twice, summary.n_traced) == (2, 4)
  assert (summary.n_lossless_once_jpeg, summary.n_lossless_traced) == (1, 2)
  n_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.name != "broken.jpg")
  assert summary.bpp[0] == pytest.approx(8 * n_bytes / (6 * 256 * 256))
  assert summary.line().startswith("JPEG 67 %, PNG 33 %, JPEG quality 75 (75-75), 4:2:0 100 %")


def test_a_sample_is_drawn_by_a_fixed_seed(folder):
  source = open_pictures(str(folder))
  first, again = (audit.audit(source, sample=3, traced=1, progress=False) for _ in range(2))
  assert first == again
  assert len(first) == 3
  assert sum(one.traced for one in first) <= 1


def test_the_command_says_what_it_means_for_curves(capsys, folder, tmp_path):
  main.main(["audit", f"--data={folder}", f"--output={tmp_path / 'out'}"])
  printed = capsys.readouterr().out
  for words in ("4 of 6 originals are JPEG below quality 90", "2 of 4 JPEG originals were JPEG before", "1 unreadable"):
    assert words in printed
  [summary] = json.loads((tmp_path / "out" / "audit.json").read_text())
  assert summary["n_twice"] == 2
  rows = {row["id"]: row for row in csv.DictReader((tmp_path / "out" / "audit.csv").open())}
  assert rows["2.jpg"]["quality"] == "75"
  assert "frame" in rows["broken.jpg"]["error"] or rows["broken.jpg"]["error"]


def test_pictures_that_are_no_files_are_told():
  with pytest.raises(DataError, match="no picture files"):
    audit.audit(MemorySource([]), progress=False)


def test_a_set_of_originals_without_loss_has_no_warning(folder):
  for path in folder.iterdir():
    if path.name != "plain.png":
      path.unlink()
  source = open_pictures(str(folder))
  summary = audit_summary.summarise(audit.audit(source, progress=False), "set", 1)
  assert audit_report.warnings(summary) == []
  assert "PNG 100 % (1)" in audit_report.text(summary)


def test_a_study_keeps_one_summary_a_data_set(folder, tmp_path, monkeypatch):
  source = sources.ViewedSource(open_pictures(str(folder)), View(resize=64))
  found = audit_summary.kept(source, "set", tmp_path / "work")
  kept = json.loads((tmp_path / "work" / found["file"]).read_text())
  assert (
    found["summary"] == kept["summary"] == audit_summary.summarise(audit.audit(source, progress=False), "set", 7).line()
  )
  monkeypatch.setattr(audit_summary, "audit", lambda *_, **__: pytest.fail("looked at twice"))
  assert audit_summary.kept(source, "set", tmp_path / "work") == found
  assert audit_summary.kept(MemorySource([]), "memory", tmp_path / "work") is None
