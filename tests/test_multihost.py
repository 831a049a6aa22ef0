"""Two processes over loopback train and evaluate to what one process with two devices does."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import tiny_model
from tiny_model import MODEL

from robust_compress import evaluate as evaluation
from robust_compress import parallel
from robust_compress.metric_writers import read_jsonl
from robust_compress.tasks.classification import Classification
from robust_compress.train import train
from robust_compress.types import NONE, Cell, Recipe, Weights

TASK = Classification()
DATA = tiny_model.pictures(42)
RECIPE = Recipe(steps=25, batch_size=16, learning_rate=0.05, ema=0.9, clip_norm=1.0, evaluate="ema")
CELL = Cell("classification", "tiny", Weights("random"), "pictures:all", NONE)


def work(workdir):
  """What every process does: (row, variables)."""
  host, n_hosts = parallel.host(), parallel.n_hosts()
  batches = tiny_model.batches(DATA, RECIPE.batch_size, host, n_hosts)
  options = {"variables": tiny_model.variables(), "n_examples": 42, "progress": False, "checkpoint_every": 10}
  variables = train(MODEL, TASK, batches, RECIPE, workdir, **options)
  rows = np.arange(42)[host::n_hosts]
  parts = ({name: value[some] for name, value in DATA.items()} for some in np.array_split(rows, 3))
  predict = evaluation.Predictor(MODEL, TASK).bind(variables)
  found = evaluation.evaluate(predict, TASK, parts, keep_predictions=True)
  found = evaluation.across_hosts(found, workdir, "cell")
  row, _ = evaluation.row(CELL, found, TASK, fingerprint={}, n_replicates=20)
  return row, variables, found


def as_arrays(row, variables, found):
  leaves = {f"variable{i}": leaf for i, leaf in enumerate(jax.tree.leaves(variables))}
  return {**leaves, "top1": row.metrics["top1"], "low": row.intervals["top1"][0], **found.predictions, "n": row.n}


def main(workdir):
  parallel.initialize()
  assert parallel.n_hosts() == jax.device_count() == 2
  np.savez(pathlib.Path(workdir) / f"host{parallel.host()}.npz", **as_arrays(*work(pathlib.Path(workdir) / "work")))


def start(workdir, host, port):
  here = pathlib.Path(__file__).parent
  environment = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": str(host),
  }
  command = [sys.executable, "-c", f"import test_multihost; test_multihost.main({str(workdir)!r})"]
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_hosts_equal_one(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  processes = [start(tmp_path, host, port) for host in (0, 1)]
  try:
    one = as_arrays(*work(tmp_path / "one"))  # meanwhile
    for process in processes:
      output, _ = process.communicate(timeout=240)
      assert process.returncode == 0, output
  finally:
    for process in processes:
      process.kill()
  hosts = [np.load(tmp_path / f"host{host}.npz") for host in (0, 1)]
  for name, value in one.items():
    np.testing.assert_array_equal(hosts[0][name], hosts[1][name])
    # Measured: bitwise equal. Gloo may add two numbers in the other order only, but compilers change.
    np.testing.assert_allclose(hosts[0][name], value, rtol=0, atol=1e-6, err_msg=name)
  lines = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "work")]
  assert [line["step"] for line in lines[1]] == list(range(25))
  np.testing.assert_allclose(*[[line["loss"] for line in some] for some in lines], atol=1e-6)
  assert not list(tmp_path.rglob("*.part-*"))
