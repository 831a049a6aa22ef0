"""The whole way from a config to a report, at a size that takes seconds; and what happens when it is cut off."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from robust_compress import parallel, protocols, settings, specs, store, study, trained
from robust_compress.data.scenes import Scenes
from robust_compress.types import NONE, DataError, SpecError, StoreError, WeightsError

TESTS = pathlib.Path(__file__).parent


def tiny_config(**changes):
  """Every protocol over two codecs on 24 rendered pictures, with a model of a few hundred parameters."""
  config = settings.default_config()
  config.models = ("own_models:tiny",)
  config.test_data = "scenes(size=32,n=20,input=asis):test"
  config.train_data = "scenes(size=32,n=24,input=asis):train"
  config.points = ("jpeg@5", "jpeg@50", "webp@20")
  config.finetune_points = ("jpeg@5", "webp@20")
  config.protocols = tuple(protocols.PROTOCOLS)
  config.base_recipe = settings.recipe_config(steps=2, batch_size=8, learning_rate=0.1)
  config.recipe = settings.recipe_config(steps=3, batch_size=8, learning_rate=0.1, batch_norm="sync")
  config.batch_size, config.n_examples, config.checkpoint_every = 8, 2, 2
  for key, value in changes.items():
    config[key] = value
  return config


def numbers(workdir):
  """What must not depend on when and how often a study was run."""
  rows = store.Store(workdir).rows()
  return {specs.cell_key(row.cell): (row.n, row.metrics, row.intervals, row.n_bytes, row.fingerprint) for row in rows}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("study")
  opened = study.Study(tiny_config(), workdir)
  return opened, opened.run()


def test_every_cell_of_every_protocol_gets_a_row(finished):
  opened, page = finished
  assert opened.missing() == []
  assert page.name == "report.html"
  assert page.stat().st_size > 10_000
  roles = {protocols.role(row.cell) for row in opened.store.rows()}
  assert roles == {"A", "B", "C", "control", "relative", "matrix", "mixed"}


def test_rates_are_the_bytes_of_the_blobs(finished):
  opened, _ = finished
  for row in opened.store.rows():
    if row.cell.test == NONE:
      assert row.bpp is None  # a rendered picture has no file
    else:
      source = opened.bench.pictures.source(row.cell.data, row.cell.test)
      assert row.n_bytes == sum(len(source.blob(index)) for index in range(len(source)))
      assert row.bpp == pytest.approx(8 * row.n_bytes / (20 * 32 * 32))


def test_a_second_run_does_nothing(finished):
  opened, _ = finished
  before = {path: path.stat().st_mtime_ns for path in opened.workdir.rglob("*.json") if "report" not in path.parts}
  study.Study(tiny_config(), opened.workdir).run()
  assert {path: path.stat().st_mtime_ns for path in before} == before


def test_plan_counts_what_is_missing(tmp_path):
  opened = study.Study(tiny_config(), tmp_path)
  text = opened.plan()
  n_cells = len(opened.cells)
  assert f"{n_cells} cells, 0 done" in text
  assert "to code      108 pictures at 5 points" in text  # 3 points of 20 pictures, 2 of 24
  assert "to train     14 steps for 5 weights" in text  # 2 for the base, 3 for each other
  assert not (tmp_path / "rows").exists()


def test_relative_on_lossless_pixels_is_one(finished):
  opened, _ = finished
  row = next(row for row in opened.store.rows() if row.cell.target == "self" and str(row.cell.test) == "jpeg@50")
  labels = next(r for r in opened.store.rows() if protocols.role(r.cell) == "B" and r.cell.test == row.cell.test)
  assert row.n_bytes == labels.n_bytes
  ids, records = opened.store.records(row.cell)
  assert len(ids) == 20
  assert records["correct1"].mean() == pytest.approx(row.metrics["top1"])


def test_other_conditions_are_shown_not_mixed(finished, tmp_path):
  opened, _ = finished
  other = study.Study(tiny_config(precision="default"), opened.workdir)
  with pytest.raises(StoreError, match=r"precision.*highest.*default"):
    other.missing()
  assert len(study.Study(tiny_config(precision="default"), opened.workdir, replace=True).missing()) == len(opened.cells)
  study.Study(tiny_config(), tmp_path)  # puts the process's precision back


def altered(path, change):
  """Changes the fields of a JSON file."""
  fields = json.loads(path.read_text())
  change(fields)
  path.write_text(json.dumps(fields))


@pytest.fixture
def without_rows(finished, tmp_path):
  """A copy of the finished workdir in which everything is to be measured again, from what lies there."""
  shutil.copytree(finished[0].workdir, tmp_path / "copy", ignore=shutil.ignore_patterns("rows", "records", "report"))
  return tmp_path / "copy"


def test_weights_trained_under_other_conditions_are_refused_or_trained_again(finished, without_rows):
  original = finished[0]
  cell = next(cell for cell in original.cells if protocols.role(cell) == "C")
  directory = without_rows / original.bench.trained.folder(cell.model, cell.weights).relative_to(original.workdir)
  altered(directory / "weights.json", lambda fields: fields["fingerprint"].update(data="of yesterday"))
  opened = study.Study(tiny_config(), without_rows)
  for verb in (opened.plan, opened.train, opened.evaluate):
    with pytest.raises(StoreError, match=r"data of yesterday there, .* now; give --replace"):
      verb()
  replacing = study.Study(tiny_config(), without_rows, replace=True)
  assert "to train     3 steps for 1 weights" in replacing.plan()
  with pytest.raises(WeightsError, match="run train first"):
    replacing.bench.variables(cell.model, cell.weights)
  replacing.train()
  assert "of yesterday" in (directory.parent / f"{directory.name}.0" / "weights.json").read_text()
  assert trained.found(without_rows)[specs.weights_key(cell.weights)][2] == directory / "variables.safetensors"
  assert "to train     0 steps" in opened.plan()
  for name in ("variables.safetensors", "weights.json"):
    assert (directory / name).read_bytes() == (original.workdir / "weights" / directory.name / name).read_bytes()


def test_pictures_coded_otherwise_are_refused_or_coded_again(finished, without_rows):
  original = finished[0]
  cell = next(cell for cell in original.cells if protocols.role(cell) == "B")
  manifest = (
    without_rows / original.bench.pictures.folder(cell.data, cell.test).relative_to(original.workdir) / "manifest.json"
  )
  whole = manifest.read_bytes()
  altered(manifest, lambda fields: fields["plan"].update(codec="of yesterday"))
  with pytest.raises(StoreError, match=r"of yesterday.*--replace"):
    study.Study(tiny_config(), without_rows).compress()
  study.Study(tiny_config(), without_rows, replace=True).compress()
  assert manifest.read_bytes() == whole


def test_a_workdir_in_a_bucket_is_refused():
  with pytest.raises(StoreError, match="mount the bucket"):
    study.Study(tiny_config(), "gs://bucket/work")


def test_conditions_name_all_that_feeds_the_model(finished):
  opened, _ = finished
  row = next(row for row in opened.store.rows() if protocols.role(row.cell) == "C")
  assert "pillow" in row.fingerprint["input"]
  [description] = opened.workdir.glob(f"weights/*-{specs.weights_key(row.cell.weights)}/weights.json")
  assert "as is, bicubic" in json.loads(description.read_text())["fingerprint"]["input"]  # of random crops


def test_the_order_of_labels_is_part_of_the_data(tmp_path):
  for folder, names in (("two", ("a", "b")), ("one", ("b",))):
    for name in names:
      (tmp_path / folder / name).mkdir(parents=True)
      Image.new("RGB", (32, 32)).save(tmp_path / folder / name / "0.png")
  fingerprints = set()
  for train in ("one", "two"):
    data = {"test_data": "folders(path=one):all", "train_data": f"folders(path={train}):all"}
    opened = study.Study(tiny_config(**data, data_dir=str(tmp_path)), tmp_path / train)
    [cell] = [cell for cell in opened.cells if protocols.role(cell) == "A"]
    fingerprints.add(opened.bench.fingerprint(cell)["data"])
    if train == "one":
      assert fingerprints == {opened.bench.pictures.source(cell.data).fingerprint()}  # nothing to map
  assert len(fingerprints) == 2


class Unlabelled(Scenes):
  """Pictures of which nobody said what they show."""

  classes = ()

  def target(self, index):
    return {}


def test_against_itself_a_model_needs_no_labels(tmp_path):
  data = {"test_data": "test_study:Unlabelled(size=32,n=9,input=asis):test", "train_data": ""}
  recipe = settings.recipe_config()
  config = tiny_config(**data, protocols=("relative",), points=("jpeg@5",), base_recipe=recipe, recipe=recipe)
  opened = study.Study(config, tmp_path)
  opened.compress()
  opened.evaluate()
  [row] = opened.store.rows()
  assert (row.cell.target, row.n) == ("self", 9)


@pytest.mark.parametrize("host", [0, 1])
def test_no_host_begins_where_the_first_cannot_lock(tmp_path, monkeypatch, host):
  opened = study.Study(tiny_config(), tmp_path)
  told = []

  def gather(flags):
    told.append(bool(flags))
    return np.array([[False], flags])

  def busy(workdir):
    raise StoreError("in use")

  for name, answer in (("host", lambda: host), ("n_hosts", lambda: 2), ("gather", gather)):
    monkeypatch.setattr(parallel, name, answer)
  monkeypatch.setattr(store, "lock", busy)
  with pytest.raises(StoreError, match=("in use", "locked by the first host")[host]):
    opened.compress()
  assert told == [host == 1]


@pytest.mark.parametrize(
  ("changes", "error", "text"),
  [
    ({"models": ("resnet5.a1_in1k",)}, SpecError, "no model 'resnet5.a1_in1k'; did you mean 'resnet50.a1_in1k'"),
    ({"points": ("jpg@5",)}, SpecError, "no codec 'jpg'; did you mean 'jpeg'"),
    ({"points": ("jpeg@101",)}, SpecError, "quality runs from 1 to 100"),
    ({"protocols": ("shfted",)}, SpecError, "no protocol 'shfted'; did you mean 'shifted'"),
    ({"task": "clasification"}, SpecError, "did you mean 'classification'"),
    ({"test_data": "folders(path=nowhere):val"}, DataError, "nowhere"),
    ({"models": ("resnet18.a1_in1k(weights=nowhere.safetensors)",)}, WeightsError, "nowhere.safetensors"),
    ({"train_data": ""}, SpecError, "train_data"),
  ],
)
def test_a_wrong_config_names_the_thing_and_the_remedy(tmp_path, changes, error, text):
  with pytest.raises(error, match=text):
    study.Study(tiny_config(**changes), tmp_path).run()


def test_a_target_rate_is_resolved_once_and_shared_with_training(tmp_path):
  config = tiny_config(points=("webp@1.2bpp",), finetune_points=(), protocols=("shifted", "finetuned"))
  opened = study.Study(config, tmp_path)
  opened.run()
  [row] = [row for row in opened.store.rows() if protocols.role(row.cell) == "B"]
  point, pictures = row.cell.test, opened.bench.pictures
  level = pictures.levels.found(point).level
  coded = {pictures.source(cell.data, cell.test).manifest.plan.level for cell in opened.cells}
  coded |= {pictures.source(config.train_data, point).manifest.plan.level}
  assert coded == {level}
  assert str(point) == "webp@1.2bpp"
  assert row.bpp == pytest.approx(1.2, rel=0.05)
  assert row.fingerprint["codec"].endswith(f" at level {level}")
  said = row.provenance["target_rate"]
  assert (said["asked"], said["bpp"], said["levels"]) == (1.2, row.bpp, [level] * 3)

  [kept] = opened.workdir.glob("levels/*.json")
  before = opened.bench.fingerprint(row.cell), pictures.folder(row.cell.data, point)
  altered(kept, lambda fields: fields["found"][str(point)].update(level=level + 1))
  after = opened.bench.fingerprint(row.cell), pictures.folder(row.cell.data, point)
  assert {name for name in before[0] if before[0][name] != after[0][name]} == {"codec"}
  assert before[1] != after[1]
  [finetuned] = [cell for cell in opened.cells if protocols.role(cell) == "C"]
  with pytest.raises(StoreError, match=rf"codec .* at level {level} there, .* at level {level + 1} now"):
    opened.bench.is_ready(finetuned.model, finetuned.weights)
  altered(kept, lambda fields: fields.update(codec="of yesterday"))
  assert pictures.levels.found(point) is None
  assert pictures.levels.sought(point).level == level  # sought again


def test_a_rate_out_of_reach_is_no_error_and_no_row(tmp_path):
  config = tiny_config(points=("jpeg@0.1bpp", "jpeg@5"), finetune_points=(), protocols=("baseline", "shifted"))
  opened = study.Study(config, tmp_path)
  assert opened.run().exists()
  assert {str(cell.test) for cell in opened.unreachable()} == {"jpeg@0.1bpp"}
  assert {str(row.cell.test) for row in opened.store.rows()} == {"none", "jpeg@5"}


def start(workdir, verb="run", config=TESTS / "tiny_study.py", **environment):
  arguments = [verb, f"--config={config}", f"--workdir={workdir}"]
  command = [sys.executable, "-m", "robust_compress", *arguments]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), **environment}
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_in_process(workdir, kill_after=None, **command):
  """The command line on the tiny config, killed (-9) after some seconds if asked; its exit status."""
  process = start(workdir, **command)
  if kill_after is None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
  else:
    kill_after(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  return process.returncode


@pytest.mark.parametrize(
  "milestone",
  [
    "coded/*/shard-*",
    "weights/*/training.json",
    "weights/*/checkpoints/*",
    "weights/*/variables.safetensors",
    "records/*.npz",
    "rows/*.json",
  ],
)
def test_killed_at_any_moment_the_rerun_gives_identical_rows(finished, tmp_path, milestone):
  opened, _ = finished

  def wait(process):
    while process.poll() is None and not list(tmp_path.glob(milestone)):
      time.sleep(0.01)

  run_in_process(tmp_path, wait)
  assert list(tmp_path.glob(milestone))
  run_in_process(tmp_path)
  assert numbers(tmp_path) == numbers(opened.workdir)


def test_two_hosts_give_the_rows_of_one(finished, tmp_path):
  opened, _ = finished
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "1"}
  hosts = [start(tmp_path, **shared, JAX_PROCESS_ID=str(host)) for host in (0, 1)]
  for host in hosts:
    _, errors = host.communicate(timeout=300)
    assert host.returncode == 0, errors.decode()
  assert numbers(tmp_path) == numbers(opened.workdir)


def test_two_runs_on_one_workdir(tmp_path):
  with store.lock(tmp_path):
    command = [sys.executable, "-c", f"from robust_compress import store\nwith store.lock({str(tmp_path)!r}): pass"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent)
  assert "StoreError" in done.stderr
  assert str(os.getpid()) in done.stderr


def test_trained_weights_are_found_by_key(finished, tmp_path):
  opened, _ = finished
  there = trained.found(opened.workdir)
  assert {weights for _, weights, _ in there.values()} >= {cell.weights for cell in opened.cells}
  with pytest.raises(WeightsError, match=r"has no weights 'other'; there are .*own_models:tiny trained on jpeg@5"):
    trained.export(opened.workdir, "other", tmp_path / "out.safetensors")


def test_rows_are_readable_json(finished):
  opened, _ = finished
  for path in (opened.workdir / "rows").glob("*.json"):
    fields = json.loads(path.read_text())
    assert np.isfinite(list(fields["metrics"].values())).all()


def test_rows_say_how_compressed_the_originals_were(tmp_path):
  for name in ("black", "white"):
    (tmp_path / "pictures" / name).mkdir(parents=True)
    Image.new("RGB", (32, 32), name).save(tmp_path / "pictures" / name / "0.jpg", quality=60)
  data = dict.fromkeys(("test_data", "train_data"), "folders(path=pictures,input=asis):all")
  config = tiny_config(**data, data_dir=str(tmp_path), protocols=("baseline",))
  config.base_recipe = settings.default_config().base_recipe  # none: the model's own weights, which are random
  opened = study.Study(config, tmp_path / "work")
  opened.evaluate()
  [row] = opened.store.rows()
  originals = row.provenance["originals"]
  assert originals["summary"] == "JPEG 100 %, JPEG quality 60 (60-60), 4:2:0 100 %"
  assert json.loads((tmp_path / "work" / originals["file"]).read_text())["n_read"] == 2
