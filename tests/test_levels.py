"""Target rates in a study: one level for a data set, a level for each picture, and rates that cannot be had."""

from __future__ import annotations

import csv
import pathlib
import socket
import time

import numpy as np
import pytest
from test_study import altered, run_in_process, start, tiny_config
from tiny_targets import get_config

from robust_compress import codecs, coding, levels, protocols, settings, specs, study
from robust_compress.types import LevelError, Point, SpecError, StoreError

TESTS = pathlib.Path(__file__).parent
CONFIG = TESTS / "tiny_targets.py"
SET, EACH, BEYOND = map(specs.parse_point, ("webp@1.2bpp", "webp(per_image=True)@1.2bpp", "jpeg@0.1bpp"))


def opened(tmp_path, *points, **changes):
  """A study that trains nothing."""
  same = {"protocols": ("baseline", "shifted"), "finetune_points": (), "n_examples": 0}
  same |= {"base_recipe": settings.recipe_config()}
  return study.Study(tiny_config(points=points, **{**same, **changes}), tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  one = study.Study(get_config(), tmp_path_factory.mktemp("targets"))
  return one, one.run()


def rows_of(one, point, role="B"):
  return [row for row in one.store.rows() if row.cell.test == point and protocols.role(row.cell) == role]


# --------------------------------------------------------------------------------------------------- points


def test_a_level_of_its_own_is_an_option_of_the_point():
  assert codecs.canonical_point("webp(per_image=True,method=6)@1bpp") == Point(
    "webp", (("method", 6), ("per_image", True)), bpp=1.0
  )
  assert codecs.canonical_point("webp(per_image=False)@1bpp") == codecs.canonical_point("webp@1bpp")
  assert codecs.canonical_point("webp(per_image=False)@20") == codecs.canonical_point("webp@20")
  assert EACH.per_image
  assert not SET.per_image
  assert codecs.load_codec(EACH).fingerprint() == codecs.load_codec("webp").fingerprint()
  for text, message in (
    ("webp(per_image=True)@20", r"needs a rate to meet, as in webp\(per_image=True\)@0\.5bpp"),
    ("webp(per_image=1)@1bpp", "expected True or False"),
    ("none(per_image=True)", "takes no options"),
  ):
    with pytest.raises(SpecError, match=message):
      codecs.canonical_point(text)
  with pytest.raises(SpecError, match="per_image"):
    codecs.load_codec("webp", per_image=True)


@pytest.mark.parametrize(
  ("name", "first", "last", "continuous"),
  [("jpeg", 1, 100, False), ("webp", 0, 100, False), ("jpeg2000", 20, 50, True)],
)
def test_ladders_hold_every_step_from_low_rate_to_high(name, first, last, continuous):
  steps, between = codecs.ladder(codecs.load_codec(name))
  assert (steps[0], steps[-1], between) == (first, last, continuous)
  assert between or len(steps) == last - first + 1


def test_a_ladder_may_descend():
  class Quantizer:
    name, levels = "q", (51, 40, 0)

    def check_level(self, level):
      if level != int(level):
        raise LevelError("whole")

  assert list(codecs.ladder(Quantizer())[0]) == list(range(51, -1, -1))


# -------------------------------------------------------------------------------------- one level for a set


@pytest.mark.parametrize(("n_sampled", "doubt", "n_moved"), [(200, 0, 0), (4, 0.02, 3)])
def test_the_level_is_the_nearest_on_all_pictures_whatever_the_sample_said(
  tmp_path, monkeypatch, n_sampled, doubt, n_moved
):
  monkeypatch.setattr(levels, "SAMPLE", n_sampled)
  one = opened(tmp_path, "webp@1.2bpp", "webp@2.5bpp", "jpeg@9bpp", "jpeg2000@4bpp")
  sampled = {point: one.bench.pictures.levels.sought(point).level for point in one.grids[0].points}
  one.compress()
  moved = 0
  for point in one.grids[0].points:
    found, codec = one.bench.pictures.levels.found(point), codecs.load_codec(point)
    source = one.bench.pictures.source(one.config.test_data)
    clips = [source.picture(i).clip for i in range(len(source))]

    def rate(level, codec=codec, clips=clips):
      n_bytes = sum(len(coded.blob) for coded in codec.encode(clips, [level] * len(clips)))
      return 8 * n_bytes / sum(clip[..., 0].size for clip in clips)

    assert found.bpp == pytest.approx(rate(found.level))
    if codecs.ladder(codec)[1]:
      assert abs(found.bpp / point.bpp - 1) <= 0.005
    else:
      near = [level for level in codecs.ladder(codec)[0] if abs(level - found.level) <= 3]
      least = min(abs(rate(level) - point.bpp) for level in near)
      assert abs(found.bpp - point.bpp) <= least + doubt * point.bpp + 1e-9
    moved += found.level != sampled[point]
  assert moved >= n_moved  # four pictures say little of twenty


def test_nothing_is_coded_twice(tmp_path, monkeypatch):
  """Target rates and plain points that come to one level share its pictures, and targets the rates of the sample."""
  level = opened(tmp_path / "first", "webp@1.2bpp").bench.pictures.levels.sought(SET).level
  one = opened(tmp_path, "webp@1.2bpp", "webp@1.199bpp", f"webp@{level}")
  coded = []
  code = coding.Coding.code
  monkeypatch.setattr(coding.Coding, "code", lambda self, *pair: coded.append(str(pair[1])) or code(self, *pair))
  one.compress()
  assert set(coded) == {f"webp@{level}"}
  [manifest] = tmp_path.glob("coded/*/manifest.json")
  assert manifest.parent == one.bench.pictures.folder(one.config.test_data, Point("webp", (), level))
  assert len(list(tmp_path.glob("levels/*.json"))) == 1
  assert {one.bench.pictures.folder(one.config.test_data, point) for point in one.grids[0].points} == {manifest.parent}
  kept = one.bench.pictures.levels._kept(SET)
  assert len(kept["sample"]) < 12
  assert set(kept["found"]) == {"webp@1.2bpp", "webp@1.199bpp"}


def test_a_plain_level_lies_where_it_always_did(tmp_path):
  """Workdirs outlive versions: names of folders of plain points are those of the first one."""
  one = opened(tmp_path, "jpeg@5")
  folder = one.bench.pictures.folder("scenes(size=32,n=20,input=asis):test", Point("jpeg", (), 5.0))
  assert folder.name == "jpeg-" + specs.key_of(["scenes(n=20,size=32):test", "jpeg@5"])


# ------------------------------------------------------------------------------------ a level for each picture


def test_each_picture_of_both_splits_has_its_level_and_rows_say_so(finished):
  one, _ = finished
  pictures = one.bench.pictures
  for data in (one.config.test_data, one.config.train_data):
    source, codec = pictures.source(data, EACH), codecs.load_codec(EACH)
    original = pictures.source(data)
    assert len(set(source.levels)) > 3
    for i in (0, 7, 19):
      assert source.blob(i) == codec.encode([original.picture(i).clip], [source.levels[i]])[0].blob
  for row in (*rows_of(one, EACH), *rows_of(one, EACH, "mixed")):
    source = pictures.source(row.cell.data, EACH)
    bpps = 8 * source.index["n_bytes"] / source.index["n_pixels"]
    said = row.provenance["target_rate"]
    assert said["share_off"] == np.mean(np.abs(bpps / 1.2 - 1) > 0.05)
    low, middle, high = said["levels"]
    assert (low, high) == (min(source.levels), max(source.levels))
    assert abs(np.mean(source.levels < middle) - 0.5) < 0.2
    assert (row.bpp, row.bpp_mean) == (pytest.approx(said["bpp"]), pytest.approx(bpps.mean()))
    assert row.fingerprint["codec"].endswith("at a level a picture, search 1")


def test_a_level_a_picture_comes_nearer_than_one_for_all(finished):
  one, _ = finished
  spread = []
  for point in (SET, EACH):
    source = one.bench.pictures.source(one.config.test_data, point)
    spread.append(np.abs(8 * source.index["n_bytes"] / source.index["n_pixels"] / 1.2 - 1).mean())
  assert spread[1] < spread[0] / 2


def test_a_second_run_does_nothing(finished):
  one, _ = finished
  before = {path: path.stat().st_mtime_ns for path in one.workdir.rglob("*") if "report" not in path.parts}
  again = study.Study(get_config(), one.workdir)
  assert again.missing() == []
  again.run()
  quiet = {path for path in before if path.is_file() and path.name not in (".lock", "log.txt")}
  assert {path: path.stat().st_mtime_ns for path in quiet} == {path: before[path] for path in quiet}


# ------------------------------------------------------------------------------------------------ out of reach


def test_rates_that_cannot_be_had_are_told_everywhere(tmp_path, capsys):
  one = opened(tmp_path, "jpeg@0.1bpp", "jpeg(per_image=True)@200bpp", "jpeg@5")
  told = r"jpeg@0.1bpp is out of reach: on these pictures jpeg gives "
  plan = one.plan()
  assert "4 cells, 0 done, 2 out of reach" in plan
  assert told in plan
  assert plan.count("\n  out ") == 2
  assert "to code      20 pictures at 1 points" in plan
  assert not (tmp_path / "coded").exists()
  one.compress()
  page = one.report()
  errors = capsys.readouterr().err
  assert errors.count(told) == 1
  assert "jpeg(per_image=True)@200bpp is out of reach" in errors
  assert set(map(str, (cell.test for cell in one.unreachable()))) == {"jpeg@0.1bpp", "jpeg(per_image=True)@200bpp"}
  assert {str(cell.test) for cell in one.missing()} == {"none", "jpeg@5"}
  low, high = one.bench.pictures.levels.found(BEYOND).reach
  source = one.bench.pictures.source(one.config.test_data)
  clips = [source.picture(i).clip for i in range(len(source))]
  for bpp, level in ((low, 1), (high, 100)):
    coded = codecs.load_codec("jpeg").encode(clips, [level] * 20)
    assert bpp == pytest.approx(8 * sum(len(one.blob) for one in coded) / (20 * 32 * 32))
  assert f"jpeg gives {low:.3g} to {high:.3g} bpp" in page.read_text()
  states = {line["asked_bpp"]: line["state"] for line in csv.DictReader((page.parent / "curves.csv").open())}
  assert (states["0.1"], states["200.0"]) == ("unreachable", "unreachable")
  for point in (BEYOND, specs.parse_point("jpeg(per_image=True)@200bpp")):
    with pytest.raises(StoreError, match="out of reach"):
      one.bench.pictures.source(one.config.test_data, point)


def test_a_report_needs_neither_data_nor_codec_to_say_it(finished, monkeypatch):
  one, _ = finished
  again = study.Study(get_config(), one.workdir)
  again.cells  # noqa: B018 - planned while the data is there

  def gone(*_):
    raise levels.DataError("the disk is at home")

  monkeypatch.setattr(again.bench.pictures, "source", gone)
  again.bench.pictures.levels.source = gone
  assert {str(cell.test) for cell in again.unreachable()} == {"jpeg@0.1bpp"}
  assert "jpeg@0.1bpp is out of reach" in again.report().read_text()


def test_what_was_found_on_other_data_or_codecs_is_sought_again(finished):
  one, _ = finished
  [kept] = [path for path in one.workdir.glob("levels/*.json") if "webp@1.2bpp" in path.read_text()]
  whole = kept.read_bytes()
  for field in ("source", "codec", "search"):
    altered(kept, lambda fields, field=field: fields.update({field: "of yesterday"}))
    assert study.Study(get_config(), one.workdir).bench.pictures.levels.found(SET) is None
    kept.write_bytes(whole)


# ------------------------------------------------------------------------------------------------- the report


def test_the_report_shows_what_was_asked_and_what_was_achieved(finished):
  one, page = finished
  text = page.read_text()
  assert "WebP (a level a picture) at 1.2 bpp" in text
  for title in ("bpp asked", "level", "pictures off"):
    assert f">{title}</th>" in text
  lines = {line["test"]: line for line in csv.DictReader((page.parent / "cells.csv").open()) if not line["trained_on"]}
  lines |= {line["test"]: line for line in csv.DictReader((page.parent / "cells.csv").open())}
  for point in (SET, EACH):
    line, [row] = lines[str(point)], rows_of(one, point)
    assert float(line["asked_bpp"]) == 1.2
    assert float(line["miss"]) == pytest.approx(row.bpp / 1.2 - 1)
    assert line["missed"] == str(abs(row.bpp / 1.2 - 1) > 0.05)
    assert float(line["level_median"]) == row.provenance["target_rate"]["levels"][1]
  assert {lines["webp@20"][name] for name in ("asked_bpp", "miss", "missed", "share_off", "level_min")} == {""}


# -------------------------------------------------------------------------------------------------- cut off


def coded(workdir):
  """{name: bytes} of all that `compress` leaves."""
  paths = [path for part in ("coded", "levels", "examples") for path in (workdir / part).rglob("*") if path.is_file()]
  return {str(path.relative_to(workdir)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("milestone", ["levels/*.json", "coded/webp-*/shard-*", "coded/webp-*/levels.npy"])
def test_killed_at_any_moment_the_rerun_leaves_the_same_bytes(finished, tmp_path, milestone):
  def wait(process):
    while process.poll() is None and not list(tmp_path.glob(milestone)):
      time.sleep(0.002)

  run_in_process(tmp_path, wait, verb="compress", config=CONFIG)
  assert list(tmp_path.glob(milestone))
  run_in_process(tmp_path, verb="compress", config=CONFIG)
  assert coded(tmp_path) == coded(finished[0].workdir)


def test_two_hosts_find_and_code_what_one_does(finished, tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "1"}
  hosts = [start(tmp_path, "compress", CONFIG, **shared, JAX_PROCESS_ID=str(host)) for host in (0, 1)]
  for host in hosts:
    _, errors = host.communicate(timeout=300)
    assert host.returncode == 0, errors.decode()
  assert coded(tmp_path) == coded(finished[0].workdir)


def test_what_a_host_found_stands_though_another_writes_over_it(tmp_path):
  """Two hosts read and write one file without a lock: the one that read first and wrote last has less in it."""
  one = opened(tmp_path, "jpeg@0.1bpp", "webp@20")
  one.bench.pictures.levels.settle(BEYOND, whole=None)
  altered(one.bench.pictures.levels._path(BEYOND), lambda fields: fields.pop("found"))
  assert not one.bench.pictures.levels.found(BEYOND).reachable
  assert [str(point) for _, point in one.codings(one.missing())] == ["webp@20"]
  assert study.Study(one.config, one.workdir).bench.pictures.levels.found(BEYOND) is None
