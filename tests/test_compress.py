"""The verb `compress`: every picture once, whatever happens on the way, and the same bytes in the end."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robust_compress import compress as module
from robust_compress.codecs import load_codec
from robust_compress.compress import Job, compress, finish, write_shards
from robust_compress.data import shards
from robust_compress.data.cache import CodedSource
from robust_compress.data.shards import Plan, read_manifest
from robust_compress.data.stored_zip import StoredZip
from robust_compress.job import sampled_rate
from robust_compress.rate import search_level
from robust_compress.types import CodecError, DataError, LevelError, SpecError, StoreError
from tests.fakes import MemorySource, ShiftCodec, photo

JPEG = load_codec("jpeg")


def pictures(n=23, **options):
  return MemorySource([photo(16 + 8 * (i % 2), 24, seed=i) for i in range(n)], **options)


def run(source, directory, level=20, codec=JPEG, **options):
  return compress(source, codec, level, directory, **{"shard_size": 5, "progress": False, **options})


def tree(directory):
  """{name: bytes} of all files of a folder."""
  return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_manifest_counts_what_was_coded(tmp_path):
  source = pictures()
  manifest = run(source, tmp_path, name="jpeg@20")
  blobs = [JPEG.encode([clip], [20])[0].blob for clip in source.clips]
  assert (manifest.n, manifest.name, manifest.skipped) == (23, "jpeg@20", ())
  assert manifest.n_bytes == sum(map(len, blobs))
  assert manifest.n_pixels == sum(clip[..., 0].size for clip in source.clips)
  assert manifest.plan.codec == JPEG.fingerprint()
  assert sorted(manifest.files) == ["index.npy", *(f"shard-{k:05d}-of-00005.zip" for k in range(5))]
  assert sorted(source.reads) == list(range(23))
  assert read_manifest(tmp_path) == manifest
  assert json.loads((tmp_path / "manifest.json").read_text())["plan"]["level"] == 20


def test_bytes_do_not_depend_on_threads_hosts_or_dates(tmp_path, monkeypatch):
  run(pictures(), tmp_path / "one", n_workers=1)
  monkeypatch.setattr(time, "time", lambda: 2e9)
  run(pictures(), tmp_path / "many", n_workers=7)
  job = Job(pictures(), JPEG, 20, tmp_path / "hosts", shard_size=5)
  for host in (2, 0, 1):
    with pytest.raises(StoreError, match=r"\d of 5 shards are missing"):
      finish(job)
    write_shards(job, host=host, n_hosts=3, progress=False)
  finish(job)
  assert tree(tmp_path / "one") == tree(tmp_path / "many") == tree(tmp_path / "hosts")


def test_nothing_is_done_twice(tmp_path):
  source = pictures()
  manifest, before = run(source, tmp_path), tree(tmp_path)
  source.reads.clear()
  assert run(source, tmp_path) == manifest
  assert source.reads == []
  (tmp_path / "shard-00003-of-00005.zip").unlink()
  assert run(source, tmp_path) == manifest
  assert sorted(source.reads) == [15, 16, 17, 18, 19]
  assert tree(tmp_path) == before


def test_levels_may_differ_by_picture(tmp_path):
  source, levels = pictures(), [5 + 4 * i for i in range(23)]
  run(source, tmp_path, levels)
  coded = CodedSource(source, tmp_path, JPEG)
  for i, level in enumerate(levels):
    assert coded.blob(i) == JPEG.encode([source.clips[i]], [level])[0].blob
  with pytest.raises(StoreError, match=r"level is 'per picture .*', asked for 20\.0"):
    run(source, tmp_path)
  with pytest.raises(LevelError, match="3 levels for 23 pictures"):
    run(source, tmp_path, [1, 2, 3])


@pytest.mark.parametrize("level", [0, 101, 10.5, float("nan"), True, None, "ten"])
def test_a_wrong_level_fails_before_anything_is_read(tmp_path, level):
  source = pictures()
  with pytest.raises(LevelError):
    run(source, tmp_path / "new", level)
  assert source.reads == []
  assert not (tmp_path / "new").exists()


def test_batched_codecs_get_one_shape_at_a_time(tmp_path):
  source, codec = pictures(40), ShiftCodec()
  run(source, tmp_path, 3, codec, shard_size=32)
  assert sorted(codec.batches) == [4, 4, 8, 8, 8, 8]
  coded = CodedSource(source, tmp_path, codec)
  assert all(np.array_equal(coded.picture(i).clip, source.clips[i] & 0xE0) for i in range(40))


# ------------------------------------------------------------------------------------ a level for each picture


class Recorded:
  """JPEG that remembers what it was asked for: [(picture, level), …] of every call."""

  name, levels = JPEG.name, JPEG.levels
  fingerprint, check_level, decode = JPEG.fingerprint, JPEG.check_level, JPEG.decode

  def __init__(self, batched=False):
    self.batched, self.calls = batched, []

  def encode(self, clips, levels):
    self.calls.append([(clip.tobytes(), level) for clip, level in zip(clips, levels, strict=True)])
    return JPEG.encode(clips, levels)


@pytest.mark.parametrize("batched", [False, True])
def test_each_picture_comes_as_near_to_the_rate_as_it_can(tmp_path, batched):
  source, codec = pictures(), Recorded(batched)
  manifest = run(source, tmp_path, None, codec, bpp=16)
  asked = [pair for call in codec.calls for pair in call]
  assert len(asked) == len(set(asked)) <= 7 * 23  # once a picture and level, of which there are a hundred
  assert max(map(len, codec.calls)) == (3 if batched else 1)  # of one shape in a chunk of a shard
  coded = CodedSource(source, tmp_path, JPEG)
  for i, clip in enumerate(source.clips):
    rates = {q: 8 * len(JPEG.encode([clip], [q])[0].blob) / clip[..., 0].size for q in range(1, 101)}
    found = search_level(rates.__getitem__, range(1, 101), 16)
    assert coded.levels[i] == found.level
    assert coded.blob(i) == JPEG.encode([clip], [found.level])[0].blob
    assert abs(found.bpp - 16) == min(abs(rate - 16) for rate in rates.values())
  assert len(set(coded.levels)) > 3
  assert abs(manifest.bpp / 16 - 1) < 0.05
  assert manifest.plan.level == "per picture nearest to 16 bpp, search 1"


def test_levels_of_pictures_depend_on_nothing_but_the_plan(tmp_path):
  run(pictures(), tmp_path / "one", None, bpp=16, n_workers=1)
  run(pictures(), tmp_path / "batched", None, Recorded(batched=True), bpp=16, n_workers=3)
  job = Job(pictures(), JPEG, None, tmp_path / "hosts", shard_size=5, bpp=16)
  for host in (1, 0):
    write_shards(job, host=host, n_hosts=2, progress=False)
  finish(job)
  (tmp_path / "hosts" / "shard-00002-of-00005.zip").unlink()
  run(pictures(), tmp_path / "hosts", None, bpp=16)
  assert tree(tmp_path / "one") == tree(tmp_path / "batched") == tree(tmp_path / "hosts")


def test_levels_of_pictures_leave_out_those_that_are_skipped(tmp_path):
  source = pictures(bad={0, 7})
  manifest = run(source, tmp_path, None, on_bad="skip", bpp=16)
  coded = CodedSource(source, tmp_path, JPEG)
  assert (manifest.n, len(coded.levels)) == (21, 21)
  for i in range(21):
    clip = source.clips[int(coded.index["position"][i])]
    assert coded.blob(i) == JPEG.encode([clip], [coded.levels[i]])[0].blob
  (tmp_path / "levels.npy").write_bytes(b"")
  with pytest.raises(StoreError, match=r"levels\.npy is missing or damaged"):
    CodedSource(source, tmp_path, JPEG).levels  # noqa: B018


def test_another_rate_is_another_plan(tmp_path):
  run(pictures(), tmp_path, None, bpp=16)
  with pytest.raises(StoreError, match=r"nearest to 16 bpp.*asked for .*nearest to 17 bpp"):
    run(pictures(), tmp_path, None, bpp=17)
  run(pictures(), tmp_path, 20, replace=True)
  assert CodedSource(pictures(), tmp_path, JPEG).levels.tolist() == [20] * 23
  with pytest.raises(LevelError, match="a rate to meet"):
    Job(pictures(), JPEG, 20, tmp_path, bpp=16)


def test_each_picture_may_have_a_rate_of_its_own(tmp_path):
  source, wanted = pictures(), np.linspace(8, 24, 23)
  manifest = run(source, tmp_path, None, bpp=wanted)
  coded = CodedSource(source, tmp_path, JPEG)
  for i, bpp in enumerate(wanted):
    rates = [8 * len(JPEG.encode([source.clips[i]], [q])[0].blob) / source.clips[i][..., 0].size for q in range(1, 101)]
    found = 8 * len(coded.blob(i)) / source.clips[i][..., 0].size
    assert abs(found - bpp) == min(abs(rate - bpp) for rate in rates)
  assert manifest.plan.level.startswith("per picture nearest to rates ")
  with pytest.raises(StoreError, match="nearest to rates"):
    run(source, tmp_path, None, bpp=wanted[::-1])
  with pytest.raises(LevelError, match="22 rates for 23 pictures"):
    Job(source, JPEG, None, tmp_path, bpp=wanted[1:])


def test_the_rate_of_a_sample_is_that_of_its_pictures(tmp_path):
  source = pictures(bad={3})
  job = Job(source, JPEG, 30, "", on_bad="skip")
  blobs = [JPEG.encode([source.clips[i]], [30])[0].blob for i in (2, 5)]
  n_pixels = sum(source.clips[i][..., 0].size for i in (2, 5))
  assert sampled_rate(job, [2, 3, 5]) == 8 * sum(map(len, blobs)) / n_pixels
  with pytest.raises(DataError, match="none of 1 pictures"):
    sampled_rate(job, [3])


# ------------------------------------------------------------------------------------------- bad pictures


def test_a_bad_picture_stops_or_is_counted(tmp_path):
  source = pictures(bad={7, 12})
  with pytest.raises(DataError, match=r"picture 'picture/0007.png': .*truncated \(on_bad=skip"):
    run(source, tmp_path)
  assert list(tree(tmp_path)) == ["shard-00000-of-00005.zip"]  # whole shards stay, nothing else does
  manifest = run(source, tmp_path, on_bad="skip")
  assert manifest.n == 21
  assert [id for id, _ in manifest.skipped] == ["picture/0007.png", "picture/0012.png"]
  with pytest.raises(DataError, match="0007"):
    run(source, tmp_path, on_bad="error")
  with pytest.raises(SpecError, match="on_bad='ignore'"):
    run(source, tmp_path, on_bad="ignore")


def test_in_a_batch_only_the_picture_that_cannot_be_coded_is_skipped(tmp_path):
  source = MemorySource([photo(8, 8, seed=i) for i in range(6)])
  source.clips[2] = photo(8, 12)
  manifest = run(source, tmp_path / "skip", 3, ShiftCodec(refuse=12), on_bad="skip")
  assert manifest.n == 5
  assert manifest.skipped[0][0] == "picture/0002.png"
  with pytest.raises(CodecError, match=r"picture 'picture/0002.png': shift: cannot code"):
    run(source, tmp_path / "error", 3, ShiftCodec(refuse=12))


# ---------------------------------------------------------------------------------- folders that hold more


def test_another_plan_in_the_folder_is_refused_or_replaced(tmp_path):
  run(pictures(), tmp_path / "new", 30)
  run(pictures(), tmp_path / "old", 20)
  with pytest.raises(StoreError, match=r"old holds other coded pictures: level is 20.0, asked for 30.0; .*--replace"):
    run(pictures(), tmp_path / "old", 30)
  (tmp_path / "old" / "manifest.json").unlink()  # as if that run had been cut off
  with pytest.raises(StoreError, match=r"n is 23, asked for 9"):
    run(pictures(9), tmp_path / "old", 20)
  run(pictures(), tmp_path / "old", 30, replace=True)
  assert tree(tmp_path / "old") == tree(tmp_path / "new")
  source = pictures()
  run(source, tmp_path / "old", 30, replace=True)  # the same plan: nothing to replace
  assert source.reads == []


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_shards_are_made_again(tmp_path, damage, manifest):
  source = pictures()
  run(source, tmp_path)
  before, path = tree(tmp_path), tmp_path / "shard-00002-of-00005.zip"
  whole = path.read_bytes()
  path.write_bytes(
    {"flip": whole[:90] + bytes([whole[90] ^ 1]) + whole[91:], "truncate": whole[:400], "empty": b""}[damage]
  )
  if not manifest:
    (tmp_path / "manifest.json").unlink()
  source.reads.clear()
  run(source, tmp_path, verify=damage == "flip")
  assert sorted(source.reads) == list(range(10, 15))
  assert tree(tmp_path) == before


@pytest.mark.parametrize("text", ["[]", '{"files": [], "skipped": []}', '{"skipped": 3}', "null"])
def test_a_manifest_of_another_shape_is_damaged(tmp_path, text):
  (tmp_path / "manifest.json").write_text(text)
  with pytest.raises(StoreError, match=r"manifest.json is damaged \(.*\); delete it and run compress again"):
    read_manifest(tmp_path)


def test_every_changed_byte_of_a_shard_is_damage_or_harmless(tmp_path):
  """Zip's own fields among them: a flag that claims encryption, another compression, a size out of the world."""
  path = tmp_path / "shard-00000-of-00001.zip"
  with open(path, "wb") as file, shards.ShardWriter(file, Plan("s", "c", 1, 1, 1, False), "x") as shard:
    shard.add(0, "a", b"blob", b"", 1, 1)
  whole, n_damaged = path.read_bytes(), 0
  for offset in range(len(whole)):
    path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
    try:
      shards.read_shard(path)
    except StoreError:
      n_damaged += 1
    shards.is_whole(path)
  assert n_damaged > len(whole) / 2
  path.unlink()
  with pytest.raises(StoreError, match="is missing; run compress again"):
    shards.read_shard(path)


# --------------------------------------------------------------------------------------------- full, killed


def test_a_full_disk_names_the_folder_and_loses_nothing(tmp_path, monkeypatch):
  source, add, count = pictures(), StoredZip.add, iter(range(1000))

  def fails_at_the_18th(self, *args):
    if next(count) == 17:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return add(self, *args)

  monkeypatch.setattr(StoredZip, "add", fails_at_the_18th)
  with pytest.raises(StoreError, match=rf"{tmp_path}.*no space left.*run the same command again"):
    run(source, tmp_path)
  assert list(tree(tmp_path)) == ["shard-00000-of-00005.zip", "shard-00001-of-00005.zip"]
  source.reads.clear()
  run(source, tmp_path)
  assert sorted(source.reads) == list(range(10, 23))


class SlowSource(MemorySource):
  def picture(self, index):
    time.sleep(0.004)
    return super().picture(index)


def slow_run(directory):
  run(SlowSource([photo(16, 16, seed=i) for i in range(160)]), directory, shard_size=16, n_workers=2)


def kill_after(directory, pattern, count):
  """Runs `slow_run` in a process of its own and kills it once so many files are there."""
  program = "import pathlib, sys; from tests.test_compress import slow_run; slow_run(pathlib.Path(sys.argv[1]))"
  process = subprocess.Popen([sys.executable, "-c", program, str(directory)])
  while process.poll() is None and sum(1 for _ in directory.glob(pattern)) < count:
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.wait()


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
  slow_run(tmp_path / "whole")
  killed = tmp_path / "killed"
  killed.mkdir()
  for pattern, count in [(".shard*", 1), ("shard*", 2), ("shard*", 5), ("shard*", 9), ("shard*", 10), ("index.npy", 1)]:
    kill_after(killed, pattern, count)
    assert sum(1 for _ in killed.glob(pattern)) >= count
  slow_run(killed)
  assert tree(killed) == tree(tmp_path / "whole")


def test_memory_holds_the_pictures_in_work_only(tmp_path, monkeypatch):
  """At most two chunks a worker are read ahead of the writer."""
  source, written, ahead = pictures(400), [], []
  add = module.ShardWriter.add

  def counted(self, *args):
    ahead.append(len(source.reads) - len(written))
    written.append(args[0])
    add(self, *args)

  monkeypatch.setattr(module.ShardWriter, "add", counted)
  run(source, tmp_path, shard_size=50, n_workers=2)
  assert written == list(range(400))
  assert max(ahead) <= 16 * 5  # two chunks in work and two waiting, and the one being written
