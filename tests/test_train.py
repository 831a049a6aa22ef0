import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_model
from tiny_model import MODEL

from robust_compress import optim, parallel
from robust_compress import train as training
from robust_compress.metric_writers import JsonlWriter, read_jsonl, tensorboard
from robust_compress.state import Checkpoints
from robust_compress.tasks.classification import Classification
from robust_compress.types import CodecError, Recipe, SpecError, StoreError, TrainError

TASK = Classification()
DATA = tiny_model.pictures(64)
RECIPE = Recipe(steps=12, batch_size=16, learning_rate=0.1, schedule="constant")


def train(workdir, recipe=RECIPE, data=DATA, **options):
  options = {"variables": tiny_model.variables(), "n_examples": len(data["label"]), "progress": False, **options}
  batches = options.pop("batches", None) or tiny_model.batches(data, recipe.batch_size)
  return training.train(options.pop("model", MODEL), TASK, batches, recipe, workdir, **options)


def changed(recipe=RECIPE, **fields):
  return Recipe(**{**recipe.__dict__, **fields})


def losses(workdir):
  return [line["loss"] for line in read_jsonl(pathlib.Path(workdir) / "metrics.jsonl")]


def assert_close(a, b, atol):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


def distance(a, b):
  return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


# ------------------------------------------------------------------------------------------------ the step


def test_it_learns_and_leaves_its_start_alone(tmp_path):
  start = tiny_model.variables()
  result = train(tmp_path, changed(steps=60), variables=start)
  assert np.mean(losses(tmp_path)[-5:]) < 0.8 * np.mean(losses(tmp_path)[:5])
  assert_close(start, tiny_model.variables(), 0)
  assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(result))
  assert [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == list(range(60))


def test_one_device_equals_two(tmp_path):
  """With synchronised batch norm; what differs is the order of float32 sums. Measured: below 1e-6 after 12 steps."""
  data = {**DATA, "label": np.where(np.arange(64) % 5 == 0, -1, DATA["label"])}  # weights differ between devices
  one, two = (train(tmp_path / str(n), data=data, mesh=parallel.mesh(jax.devices()[:n])) for n in (1, 2))
  assert distance(one, tiny_model.variables()) > 0.05
  assert_close(one, two, 1e-5)


def test_microbatches_equal_one_batch(tmp_path):
  """Without batch statistics, and with unequal weights in the parts."""
  data = {**DATA, "label": np.where(np.arange(64) % 3 == 0, -1, DATA["label"])}
  whole = train(tmp_path / "whole", changed(batch_norm="frozen"), data)
  parts = train(tmp_path / "parts", changed(batch_norm="frozen", gradient_accumulation=4), data)
  assert_close(whole, parts, 1e-5)


def test_batch_norm_modes(tmp_path):
  start, results = tiny_model.variables(), {}
  for mode in ("sync", "local", "frozen"):
    results[mode] = train(tmp_path / mode, changed(batch_norm=mode, steps=1, learning_rate=1e-9))
  assert_close(results["frozen"]["batch_stats"], start["batch_stats"], 0)
  # Both modes see the same means; the variance within halves of a batch is less than that of the whole.
  sync, local = (results[mode]["batch_stats"]["norm"] for mode in ("sync", "local"))
  assert_close(sync["mean"], local["mean"], 1e-6)
  assert (local["var"] <= sync["var"] + 1e-6).all()
  assert distance(sync["var"], local["var"]) > 1e-5


class Counting(tiny_model.TinyNet):
  """Counts the pictures that it was trained on, beside what it keeps for batch norm."""

  @nn.compact
  def __call__(self, x, train=False):
    seen = self.variable("counters", "seen", jnp.zeros, (), jnp.float32)
    if train:
      seen.value += jax.lax.psum(jnp.float32(len(x)), "batch")
    return super().__call__(x, train)


def test_frozen_batch_norm_stops_no_other_counter(tmp_path):
  model = dataclasses.replace(MODEL, build=Counting)
  start = {**tiny_model.variables(), "counters": {"seen": np.float32(0)}}
  recipe = changed(batch_norm="frozen", steps=3, gradient_accumulation=2)
  result = train(tmp_path, recipe, model=model, variables=start)
  assert result["counters"]["seen"] == 3 * recipe.batch_size
  assert_close(result["batch_stats"], start["batch_stats"], 0)


def test_moving_average(tmp_path):
  """It is the average of what shorter trainings give, and `evaluate` chooses between it and the raw weights."""
  start, recipe = tiny_model.variables(), changed(ema=0.5, evaluate="ema", steps=2)
  one, two = (train(tmp_path / str(n), changed(steps=n)) for n in (1, 2))
  expected = jax.tree.map(lambda a, b, c: 0.25 * a + 0.25 * b + 0.5 * c, start, one, two)
  assert_close(train(tmp_path / "ema", recipe), expected, 1e-6)
  assert_close(train(tmp_path / "raw", changed(recipe, evaluate="raw")), two, 0)


def test_bfloat16_computes_short_and_keeps_parameters_long(tmp_path):
  with jax.numpy_dtype_promotion("standard"):  # flax's own batch norm needs it; a model with its own does not
    short, full = (train(tmp_path / dtype, changed(dtype=dtype)) for dtype in ("bfloat16", "float32"))
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(short))
  assert 1e-5 < distance(short["params"], full["params"]) < 0.1


def test_augmentation_and_dropout_draw_anew_each_step(tmp_path):
  recipe = changed(mixup=0.2, label_smoothing=0.1, dropout=0.5, learning_rate=0.0, steps=4)
  same = tiny_model.batches({name: value[:16] for name, value in DATA.items()}, 16)
  for seed in (0, 1):
    train(tmp_path / str(seed), recipe, batches=same, seed=seed)
  assert len({*losses(tmp_path / "0"), *losses(tmp_path / "1")}) == 8


def test_a_model_may_own_its_loss_and_give_parameters_an_optimizer(tmp_path):
  def own(outputs, batch):
    n = jnp.float32(len(outputs))
    return {"size": ((outputs**2).sum(-1).sum(), n), "offset": (outputs.sum(), n * 7)}

  model = MODEL.__class__(**{**MODEL.__dict__, "own_loss": own})
  start = tiny_model.variables()
  groups = [optim.Group("params/head", optax.set_to_zero())]
  result = train(tmp_path, changed(steps=2), model=model, groups=groups)
  assert_close(result["params"]["head"], start["params"]["head"], 0)
  assert distance(result["params"]["conv"], start["params"]["conv"]) > 0
  line = read_jsonl(tmp_path / "metrics.jsonl")[0]
  assert line["loss"] == pytest.approx(line["size"] + line["offset"], rel=1e-5)


# --------------------------------------------------------------------------------------------------- resume

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny_model, test_train

def batches(start):
  for step, batch in enumerate(tiny_model.batches(test_train.DATA, 16)(start), start):
    if step == 21:  # while the checkpoint of step 20 is being written
      os.kill(os.getpid(), signal.SIGKILL)
    yield batch

test_train.train({workdir!r}, test_train.LONG, batches=batches, checkpoint_every=10)
"""
LONG = changed(
  steps=30, schedule="cosine", warmup=0.2, optimizer="adamw", learning_rate=0.01, ema=0.9, dropout=0.2, mixup=0.2
)


def test_killed_training_goes_on_exactly(tmp_path):
  script = KILLED.format(tests=str(pathlib.Path(__file__).parent), workdir=str(tmp_path / "killed"))
  process = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)
  assert process.returncode == -signal.SIGKILL, process.stderr
  # A kill may leave half a line.
  (tmp_path / "killed/metrics.jsonl").open("a").write('{"step": 20, "lo')
  started = []

  def batches(start):
    started.append(start)
    return tiny_model.batches(DATA, 16)(start)

  resumed = train(tmp_path / "killed", LONG, batches=batches, checkpoint_every=10)
  assert started[0] in (10, 20)
  whole = train(tmp_path / "whole", LONG)
  assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
  assert len(losses(tmp_path / "whole")) == 30
  assert_close(resumed, whole, 0)


def test_finished_training_only_gives_its_weights(tmp_path):
  first = train(tmp_path)

  def none_needed(start):
    raise AssertionError(start)

  assert_close(train(tmp_path, batches=none_needed), first, 0)


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
  whole = train(tmp_path, changed(steps=20), checkpoint_every=5)
  folders = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
  assert folders == [15, 20]
  damage(tmp_path / "checkpoints/20")
  again = train(tmp_path, changed(steps=20), checkpoint_every=5)
  assert "20 is damaged" in caplog.text
  assert_close(again, whole, 0)
  for step in (15, 20):
    damage(tmp_path / f"checkpoints/{step}")
  with pytest.raises(TrainError, match=r"none of the checkpoints .* delete the folder"):
    train(tmp_path, changed(steps=20))


def damage(folder):
  """Flips a few bytes in the middle of every array file."""
  for path in folder.rglob("d/*"):
    data = bytearray(path.read_bytes())
    for i in range(len(data) // 3, len(data) // 3 + 8):
      data[i] ^= 0xFF
    path.write_bytes(data)


# --------------------------------------------------------------------------------------------------- faults


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
  poisoned = Recipe(**{**RECIPE.__dict__, "steps": 40})

  class Poisoned(Classification):
    def loss(self, outputs, batch):
      (total, weight) = super().loss(outputs, batch)["cross_entropy"]
      return {"cross_entropy": (total + jnp.where(batch["bad"].any(), jnp.nan, 0.0), weight)}

  def batches(start):
    for step, batch in enumerate(tiny_model.batches(DATA, 16)(start), start):
      yield {**batch, "bad": np.full(16, step == 17)}

  options = {"variables": tiny_model.variables(), "n_examples": 64, "checkpoint_every": 8, "progress": False}
  for _ in range(2):  # the second time it starts from the good checkpoint and says the same
    with pytest.raises(TrainError, match=r"step 17: loss nan.*lower learning_rate.*good up to step 16"):
      training.train(MODEL, Poisoned(), batches, poisoned, tmp_path, **options)
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  assert checkpoints.last == 16
  checkpoints.close()


def test_a_full_disk_is_told_with_its_remedy(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
  with pytest.raises(StoreError, match=r"checkpoints: .* No space left on device\); .* free some space"):
    train(tmp_path, changed(steps=2))


def test_diverging_training_says_so(tmp_path):
  with pytest.raises(TrainError, match="lower learning_rate"):
    train(tmp_path, changed(learning_rate=1e30))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"batch_size": 15}, "batch_size=15 does not divide over 2 devices"),
    ({"gradient_accumulation": 3}, "use a multiple of 6"),
    ({"evaluate": "ema"}, "needs a decay, such as ema=0.999"),
    ({"epochs": 1.0}, "either epochs or steps"),
    ({"crop_zoom": (0.0, 2.0)}, r"recipe.crop_zoom is \(0.0, 2.0\); expected the least and the largest"),
    ({"crop_zoom": (2.0, 1.0)}, "recipe.crop_zoom is"),
    ({"crop_zoom": (1.0,)}, "recipe.crop_zoom is"),
  ],
)
def test_recipes_that_cannot_be_followed(tmp_path, fields, message):
  with pytest.raises(TrainError, match=message):
    train(tmp_path, changed(**fields))


def test_unknown_mode_is_told_with_the_nearest(tmp_path):
  with pytest.raises(SpecError, match="did you mean 'sync'"):
    train(tmp_path, changed(batch_norm="synch"))


def test_another_training_in_the_workdir_is_not_gone_on_with(tmp_path):
  train(tmp_path, changed(steps=1))
  with pytest.raises(TrainError, match="seed: 0 there, 1 now"):
    train(tmp_path, changed(steps=1), seed=1)
  with pytest.raises(TrainError, match="use another workdir"):
    train(tmp_path, changed(steps=1, momentum=0.5))


def test_equal_trainings_are_compiled_once(tmp_path):
  before = training._compiled.cache_info()
  recipe = changed(steps=1, learning_rate=0.3)
  for name in ("one", "two"):
    train(tmp_path / name, recipe)
  after = training._compiled.cache_info()
  assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
  assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "two" / "metrics.jsonl").read_bytes()
  train(tmp_path / "list", recipe, model=dataclasses.replace(MODEL, rules=([],)))  # not hashable, and no less right
  assert losses(tmp_path / "list") == losses(tmp_path / "one")


def test_batches_that_end_or_have_another_size(tmp_path):
  with pytest.raises(TrainError, match="ended at step 3 of 12"):
    train(tmp_path / "end", batches=lambda start: (next(tiny_model.batches(DATA, 16)(0)) for _ in range(3)))
  with pytest.raises(TrainError, match="8 rows on each of 1 hosts, but the recipe has batch_size=16"):
    train(tmp_path / "size", batches=tiny_model.batches(DATA, 8))


def test_what_is_monitored_does_not_pass_for_a_loss(tmp_path):
  class Twice(Classification):
    def monitor(self, outputs, batch):
      return self.loss(outputs, batch)

  options = {"variables": tiny_model.variables(), "n_examples": 64, "progress": False}
  with pytest.raises(TrainError, match="monitors cross_entropy, which its loss is made of"):
    training.train(MODEL, Twice(), tiny_model.batches(DATA, 16), RECIPE, tmp_path, **options)


def test_what_cannot_be_measured_does_not_stop_training(tmp_path, caplog):
  def probe(variables):
    raise CodecError("no such numbers")

  train(tmp_path, changed(steps=2), probe=probe)
  assert "step 1: the probe measured nothing: no such numbers" in caplog.text
  assert len(losses(tmp_path)) == 2


# --------------------------------------------------------------------------------------------------- metrics


def test_metrics_go_to_tensorboard_when_asked(tmp_path):
  train(tmp_path, changed(steps=2), writer=tensorboard(tmp_path / "tensorboard"))
  assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_metrics_after_the_checkpoint_are_forgotten(tmp_path):
  writer = JsonlWriter(tmp_path / "metrics.jsonl")
  for step in range(5):
    writer.write_scalars(step, {"loss": 0.1 * step})
  writer.flush()
  writer.rewind(3)
  assert [line["step"] for line in read_jsonl(writer.path)] == [0, 1, 2]
  assert json.loads(writer.path.read_text().splitlines()[1]) == {"step": 1, "loss": 0.1}
  assert os.listdir(tmp_path) == ["metrics.jsonl"]
