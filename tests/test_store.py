"""Rows survive kills, full disks and second thoughts; records come back as they went in."""

import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from robust_compress import files, specs
from robust_compress.store import Store, flatten, load_rows, lock, write_atomic, write_rows
from robust_compress.types import NONE, Cell, Row, StoreError, Weights

CELL = Cell("classification", "resnet18", Weights("file:abc"), "scenes:test", specs.parse_point("jpeg@10"))
OTHER = dataclasses.replace(CELL, test=NONE)
ROW = Row(
  CELL,
  n=250,
  metrics={"top1": 0.5, "top5": 0.75},
  intervals={"top1": (0.4, 0.6), "top5": (0.7, 0.8)},
  n_bytes=1000,
  n_pixels=16000,
  bpp=0.5,
  bpp_mean=0.55,
  fingerprint={"codec": "libjpeg-turbo 3.2", "device": "cpu"},
  provenance={"git": {"commit": "c"}},
  wall_s=1.5,
)


@pytest.fixture
def store(tmp_path):
  return Store(tmp_path)


def temporaries(path):
  return list(pathlib.Path(path).rglob(".*.tmp"))


# -------------------------------------------------------------------------------------------------- rows


def test_a_row_comes_back_and_is_readable(store):
  assert store.row(CELL) is None
  assert store.rows() == []
  store.put(ROW)
  assert store.row(CELL) == ROW
  assert store.rows() == [ROW]
  text = store.row_path(CELL).read_text()
  assert text.startswith('{\n  "cell": {')
  assert json.loads(text)["cell"]["test"] == "jpeg@10"


def test_numpy_numbers_and_nan_become_plain_json(store):
  store.put(
    dataclasses.replace(ROW, n=np.int64(3), metrics={"top1": np.float32(0.5), "miou": float("nan")}, intervals={})
  )
  fields = json.loads(store.row_path(CELL).read_text(), parse_constant=pytest.fail)
  assert (fields["n"], fields["metrics"]) == (3, {"top1": 0.5, "miou": None})
  assert np.isnan(store.row(CELL).metrics["miou"])


def test_missing_is_what_has_no_row_once_and_in_order(store):
  store.put(ROW)
  third = dataclasses.replace(CELL, target="self")
  assert store.missing([third, CELL, OTHER, third]) == [third, OTHER]
  assert store.missing([CELL], lambda cell: dict(ROW.fingerprint)) == []
  assert store.missing([CELL], lambda cell: {"device": "cpu"}) == []  # the rest is not known yet


def test_another_fingerprint_is_shown_and_replaced_on_demand(store):
  store.put(ROW)
  newer = dataclasses.replace(ROW, n=1, fingerprint={"codec": "libjpeg-turbo 4.0", "device": "cpu"})
  for attempt in (lambda: store.put(newer), lambda: store.missing([CELL], lambda cell: newer.fingerprint)):
    with pytest.raises(StoreError) as caught:
      attempt()
    message = str(caught.value)
    assert "codec: stored libjpeg-turbo 3.2, now libjpeg-turbo 4.0" in message
    assert "device" not in message
    assert "--replace" in message
    assert "resnet18" in message
  assert store.row(CELL) == ROW
  assert store.missing([CELL], lambda cell: newer.fingerprint, replace=True) == [CELL]
  store.put(newer, replace=True)
  store.put(ROW, replace=True)
  assert store.rows() == [ROW]
  archived = [json.loads(path.read_text())["n"] for path in sorted((store.workdir / "rows" / "archive").iterdir())]
  assert archived == [250, 1]


def test_records_are_archived_with_their_row(store):
  other = dataclasses.replace(ROW, fingerprint={**ROW.fingerprint, "codec": "another"})
  for round, row in enumerate((ROW, other, ROW)):
    for attempt in range(2):  # as when a kill comes between records and row
      store.put_records(CELL, ["a"], {"correct": np.array([10 * round + attempt])}, replace=round > 0)
    store.put(row, replace=round > 0)
  archive = sorted((store.workdir / "records" / "archive").iterdir())
  assert [path.name.split(".")[-2] for path in archive] == ["0", "1"]
  assert [np.load(path)["records/correct"].item() for path in archive] == [1, 11]
  assert store.records(CELL)[1]["correct"].item() == 21


def test_a_damaged_row_is_named(store):
  store.put(ROW)
  path = store.row_path(CELL)
  for text in ("{", "[]", "{}", json.dumps({**json.loads(path.read_text()), "surprise": 1})):
    path.write_text(text)
    with pytest.raises(StoreError, match=f"{path.name} is not a row.*remove it"):
      store.rows()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_compaction_round_trips(store, tmp_path, suffix):
  if suffix == ".parquet":
    pytest.importorskip("pyarrow")
  other = dataclasses.replace(ROW, cell=OTHER, metrics={"miou": float("nan")}, intervals={}, n_bytes=None, bpp=None)
  store.put(ROW)
  store.put(other)
  path = tmp_path / f"results{suffix}"
  write_rows(path, store.rows())
  assert list(map(repr, load_rows(path))) == list(map(repr, store.rows())) == list(map(repr, load_rows(tmp_path)))
  assert flatten(ROW)["top1_high"] == 0.6


def test_rows_load_from_a_folder_of_results(tmp_path):
  write_rows(tmp_path / "a.jsonl", [ROW])
  write_rows(tmp_path / "b.jsonl", [dataclasses.replace(ROW, cell=OTHER)])
  assert [row.cell for row in load_rows(tmp_path)] == [CELL, OTHER]
  with pytest.raises(StoreError, match="expected a workdir"):
    load_rows(tmp_path / "nothing")
  with pytest.raises(StoreError, match=r"\.jsonl or \.parquet"):
    write_rows(tmp_path / "rows.csv", [ROW])


# ----------------------------------------------------------------------------------------------- records


def test_records_come_back_ragged_and_not(store):
  boxes = np.empty(3, object)
  boxes[:] = [np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32), np.full((1, 4), 7, np.float32)]
  records = {"correct": np.array([1, 0, 1], np.uint8), "confusion": np.arange(12).reshape(3, 2, 2), "boxes": boxes}
  store.put_records(CELL, ["b", "a", "ü"], records, {"top1": np.array([0.5, 0.6])})
  ids, back = store.records(CELL)
  assert ids == ["b", "a", "ü"]
  assert back.keys() == records.keys()
  for name in ("correct", "confusion"):
    assert back[name].dtype == records[name].dtype
    np.testing.assert_array_equal(back[name], records[name])
  for a, b in zip(back["boxes"], boxes):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  assert store.replicates(CELL)["top1"].tolist() == [0.5, 0.6]
  np.load(store.records_path(CELL), allow_pickle=False)["ids"]


def test_no_records_at_all_and_no_examples(store):
  with pytest.raises(StoreError, match="no records"):
    store.records(CELL)
  store.put_records(CELL, [], {"correct": np.zeros(0, np.uint8)})
  assert store.records(CELL)[0] == []
  assert store.replicates(CELL) == {}


def test_damaged_records_and_unequal_lengths_are_named(store):
  with pytest.raises(StoreError, match="2 records of 'correct' for 1 ids"):
    store.put_records(CELL, ["a"], {"correct": np.zeros(2)})
  store.put_records(CELL, ["a"], {"correct": np.zeros(1)})
  path = store.records_path(CELL)
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(StoreError, match="damaged"):
    store.records(CELL)


def test_records_without_pickles(store):
  values = np.empty(2, object)
  values[:] = [np.array([{}]), np.array([{}])]
  with pytest.raises(StoreError, match="numbers or text"):
    store.put_records(CELL, ["a", "b"], {"bad": values})
  assert temporaries(store.workdir) == []


# ------------------------------------------------------------------------------------ full disks and kills


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(store, monkeypatch, step):
  store.put(ROW)

  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(files.os, step, full)
  with pytest.raises(StoreError, match=r"no space left.*nothing was lost"):
    store.put(dataclasses.replace(ROW, n=3))
  monkeypatch.undo()
  assert store.rows() == [ROW]
  assert temporaries(store.workdir) == []


def python(code, *arguments):
  command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
  root = pathlib.Path(__file__).parent.parent
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_a_file_size_limit_loses_nothing(tmp_path):
  """A real refusal by the kernel, in the middle of a write."""
  write_atomic(tmp_path / "file", b"old")
  limited = python(
    """
    import resource, sys
    from robust_compress.store import write_atomic
    from robust_compress.types import StoreError
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
      write_atomic(sys.argv[1] + "/file", b"x" * 100_000)
    except StoreError as error:
      print(error)
    """,
    tmp_path,
  )
  assert "no space left" in limited.communicate(timeout=60)[0]
  assert [path.name for path in tmp_path.iterdir()] == ["file"]
  assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
  def refused(*_):
    raise OSError(errno.EROFS, "Read-only file system")

  monkeypatch.setattr(files.os, "replace", refused)
  with pytest.raises(StoreError, match=r"cannot be written.*choose a workdir"):
    write_atomic(tmp_path / "file", b"x")


@pytest.mark.parametrize("n_rows", [1, 6, 20])
def test_killed_at_any_moment_no_half_row(tmp_path, n_rows):
  """kill -9 while rows are written one after another; the next run clears up and finds only whole ones."""
  write_rows(tmp_path / "row.jsonl", [ROW])
  writer = python(
    """
    import dataclasses, sys
    from robust_compress.store import Store, lock, load_rows
    [row] = load_rows(sys.argv[1])
    store = Store(sys.argv[2])
    with lock(sys.argv[2]):
      for i in range(10**6):
        cell = dataclasses.replace(row.cell, model=f"model{i}")
        store.put(dataclasses.replace(row, cell=cell, provenance={"padding": "x" * 200_000}))
        print(i, flush=True)
    """,
    tmp_path / "row.jsonl",
    tmp_path / "work",
  )
  for _ in range(n_rows):
    writer.stdout.readline()
  time.sleep(0.0007 * n_rows)
  writer.send_signal(signal.SIGKILL)
  writer.wait()
  store = Store(tmp_path / "work")
  (tmp_path / "work" / "rows" / f".x.json.{files.socket.gethostname()}-{writer.pid}-00000000.tmp").write_text("half")
  assert len(store.rows()) >= n_rows
  with lock(tmp_path / "work"):
    assert temporaries(tmp_path) == []
  assert len(store.rows()) >= n_rows


def test_temporaries_of_the_living_stay(tmp_path):
  with files.replacing(tmp_path / "slow") as file:
    file.write(b"x")
    assert files.clean(tmp_path) == 0
    far = tmp_path / ".x.elsewhere-1-00000000.tmp"
    far.write_text("")
    assert files.clean(tmp_path) == 0
    os.utime(far, (0, 0))
    assert files.clean(tmp_path) == 1
  assert (tmp_path / "slow").read_bytes() == b"x"


# -------------------------------------------------------------------------------------------------- lock


def test_one_writer_at_a_time_and_the_dead_hold_nothing(tmp_path):
  holder = python(
    """
    import sys, time
    from robust_compress.store import lock
    with lock(sys.argv[1]):
      print("held", flush=True)
      time.sleep(60)
    """,
    tmp_path,
  )
  assert holder.stdout.readline() == "held\n"
  with pytest.raises(StoreError, match=f"in use by process {holder.pid} on .*wait for it"), lock(tmp_path):
    pass
  holder.kill()
  holder.wait()
  with lock(tmp_path):
    assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_locks_nest_and_end(tmp_path):
  with lock(tmp_path):
    with lock(tmp_path):
      pass
    other = python("import sys; from robust_compress.store import lock\nwith lock(sys.argv[1]): pass", tmp_path)
    assert "in use by" in other.communicate(timeout=60)[1]
  other = python("import sys; from robust_compress.store import lock\nwith lock(sys.argv[1]): pass", tmp_path)
  assert other.communicate(timeout=60)[1] == ""


def test_a_workdir_that_is_a_file(tmp_path):
  (tmp_path / "file").write_text("")
  for attempt in (lambda: write_atomic(tmp_path / "file" / "x", b""), lambda: lock(tmp_path / "file").__enter__()):
    with pytest.raises(StoreError, match=r"cannot be written.*choose a workdir"):
      attempt()


def test_buckets_are_not_locked():
  assert not files.is_local("gs://bucket/work")
  assert files.is_local("runs/work")
  with lock("gs://bucket/work"):
    pass
