"""`compress` as a Beam pipeline: the records and the manifest of a plain run, whatever happens on the way."""

import functools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from robust_compress.codecs import load_codec
from robust_compress.compress import compress
from robust_compress.data.shards import read_manifest
from robust_compress.main import main
from robust_compress.types import DataError, StoreError
from tests.beam_jobs import bad_pictures, make_job, other_on_the_worker, pictures, slow_pictures
from tests.test_compress import tree

beam = pytest.importorskip(
  "robust_compress.beam",
  reason="Apache Beam is not installed; it is an extra (requirements/extras.txt)",
  exc_type=ImportError,
)

DIRECT = ("--runner=DirectRunner",)
PROCESSES = (*DIRECT, "--direct_running_mode=multi_processing", "--direct_num_workers=2")


def plain_run(directory, **options):
  return compress(
    pictures(), load_codec("jpeg"), 20, directory, name="jpeg@20", shard_size=5, progress=False, **options
  )


@pytest.mark.parametrize("options", [DIRECT, PROCESSES], ids=["threads", "processes"])
def test_shards_records_and_manifest_are_those_of_a_plain_run(tmp_path, options):
  expected = plain_run(tmp_path / "plain")
  assert beam.write_shards(functools.partial(make_job, tmp_path / "beam"), options) == expected
  assert tree(tmp_path / "beam") == tree(tmp_path / "plain")


def test_the_level_may_differ_by_picture(tmp_path):
  levels = [5 + 4 * i for i in range(23)]
  compress(pictures(), load_codec("jpeg"), levels, tmp_path / "plain", name="jpeg@20", shard_size=5, progress=False)
  beam.write_shards(functools.partial(make_job, tmp_path / "beam", level=levels), DIRECT)
  assert tree(tmp_path / "beam") == tree(tmp_path / "plain")


def test_what_stands_is_not_coded_again(tmp_path, monkeypatch):
  job = functools.partial(make_job, tmp_path)
  manifest = beam.write_shards(job, DIRECT)
  before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
  monkeypatch.setattr(beam.apache_beam, "Pipeline", None)  # nothing is missing: no pipeline is made
  assert beam.write_shards(job, DIRECT) == manifest
  monkeypatch.undo()
  (tmp_path / "shard-00003-of-00005.zip").unlink()
  assert beam.write_shards(job, DIRECT) == manifest
  after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
  assert [name for name in after if after[name] != before[name]] == ["shard-00003-of-00005.zip"]


def test_a_damaged_shard_is_made_again(tmp_path):
  manifest, path = plain_run(tmp_path), tmp_path / "shard-00001-of-00005.zip"
  whole = path.read_bytes()
  path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
  assert beam.write_shards(functools.partial(make_job, tmp_path), DIRECT, verify=True) == manifest
  assert path.read_bytes() == whole


def test_another_plan_is_refused_or_replaced(tmp_path):
  plain_run(tmp_path)
  other = functools.partial(make_job, tmp_path, level=30)
  with pytest.raises(StoreError, match=r"level is 20.0, asked for 30.0"):
    beam.write_shards(other, DIRECT)
  assert beam.write_shards(other, DIRECT, replace=True).plan.level == 30


def test_a_bad_picture_stops_the_pipeline_or_is_counted(tmp_path):
  job = functools.partial(make_job, tmp_path, source=bad_pictures)
  with pytest.raises(DataError, match=r"picture 'picture/0007.png': .*truncated \(on_bad=skip"):
    beam.write_shards(job, DIRECT)
  assert not (tmp_path / "manifest.json").exists()
  manifest = beam.write_shards(functools.partial(job, on_bad="skip"), DIRECT)
  assert [id for id, _ in manifest.skipped] == ["picture/0007.png"]


def test_a_worker_that_sees_other_pictures_is_refused(tmp_path):
  with pytest.raises(StoreError, match=r"a worker on .* would code something else: .*n is 24, asked for 23; give all"):
    beam.write_shards(functools.partial(other_on_the_worker, tmp_path, os.getpid()), PROCESSES)


def coded_files(workdir):
  found = [path for path in (workdir / "coded").rglob("*") if path.is_file()]
  return {str(path.relative_to(workdir)): path.read_bytes() for path in found}


def test_the_command_line_codes_by_a_runner(tmp_path):
  command = ["compress", f"--config={pathlib.Path(__file__).with_name('tiny_study.py')}"]
  main([*command, f"--workdir={tmp_path / 'plain'}"])
  main([*command, f"--workdir={tmp_path / 'beam'}", *DIRECT, "--direct_num_workers=1"])
  assert coded_files(tmp_path / "beam") == coded_files(tmp_path / "plain")
  assert len(coded_files(tmp_path / "plain")) >= 6


# ------------------------------------------------------------------------------------- killed, and at once


def slow_run(directory):
  beam.write_shards(functools.partial(make_job, directory, source=slow_pictures), DIRECT)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
  slow_run(tmp_path / "whole")
  killed = tmp_path / "killed"
  killed.mkdir()
  program = "import pathlib, sys; from tests.test_beam import slow_run; slow_run(pathlib.Path(sys.argv[1]))"
  for n_shards in (1, 9, 20):
    process = subprocess.Popen([sys.executable, "-c", program, str(killed)])
    while process.poll() is None and sum(1 for _ in killed.glob("shard-*")) < n_shards:
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
  slow_run(killed)
  assert tree(killed) == tree(tmp_path / "whole")


def test_two_pipelines_at_once_do_no_harm(tmp_path):
  slow_run(tmp_path / "whole")
  context = multiprocessing.get_context("spawn")
  runs = [context.Process(target=slow_run, args=(tmp_path / "shared",)) for _ in range(2)]
  for run in runs:
    run.start()
  for run in runs:
    run.join()
  assert [run.exitcode for run in runs] == [0, 0]
  assert tree(tmp_path / "shared") == tree(tmp_path / "whole")
  assert read_manifest(tmp_path / "shared").n == 160
