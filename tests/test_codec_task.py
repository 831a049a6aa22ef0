"""Training of learned codecs: rate and distortion as a task of the one loop, on any folder of pictures."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import MemorySource, photo

from robust_compress import convert, named, provenance, settings, specs, study, tasks
from robust_compress import train as training
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import LAMBDAS
from robust_compress.codecs.learned.training import trainee
from robust_compress.data import pipeline
from robust_compress.inspect import quality
from robust_compress.metric_writers import read_jsonl
from robust_compress.models import export, load_weights
from robust_compress.tasks import similarity
from robust_compress.tasks.codec import Codec
from robust_compress.types import DataError, Recipe, SpecError, View, Weights, WeightsError
from tests.small_networks import small_weights

SMALL = {"n": 8, "m": 12, "levels": 3, "side": 64}
RECIPE = Recipe(steps=6, batch_size=4, optimizer="adamw", learning_rate=1e-3, crop_scale=None, crop_zoom=(1.0, 1.5))
PICTURES = MemorySource([photo(80, 96, seed) for seed in range(6)])


def train(model, workdir, recipe=RECIPE, **options):
  batches = pipeline.train_batches([PICTURES], model.input, View(), recipe, 0)
  task = options.pop("task", Codec())
  variables = options.pop("variables", None) or load_weights(model)
  return training.train(
    model, task, batches, recipe, workdir, variables=variables, n_examples=6, progress=False, **options
  )


@functools.cache
def small(network="mbt2018-mean", **options):
  return trainee(network, **{**SMALL, **options})


def batch_of(side=64, n=4):
  return {"image": np.concatenate([photo(side, side, seed) for seed in range(n)])}


def test_the_loss_falls_and_the_numbers_are_told(tmp_path):
  train(small(), tmp_path, Recipe(**{**RECIPE.__dict__, "steps": 40, "clip_norm": 1.0}))
  lines = read_jsonl(tmp_path / "metrics.jsonl")
  assert {"loss", "rate", "distortion", "auxiliary", "estimated_bpp", "psnr", "grad_norm"} <= lines[0].keys()
  for line in lines:
    assert line["loss"] == pytest.approx(line["rate"] + line["distortion"] + line["auxiliary"], rel=1e-5)
  distortion = [line["distortion"] for line in lines]
  assert np.mean(distortion[-5:]) < 0.7 * np.mean(distortion[:5])


def test_quantiles_go_to_where_they_belong_at_a_rate_of_their_own(tmp_path):
  """They are moved by their own loss alone: at a learning rate of zero nothing else moves."""
  start = load_weights(small())
  still = Recipe(**{**RECIPE.__dict__, "learning_rate": 0.0})
  end = train(small(), tmp_path, still, variables=start)
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), start, end)["params"]
  assert moved["entropy_bottleneck"].pop("quantiles") > 1e-3
  assert max(jax.tree.leaves(moved)) == 0


def test_every_parameter_has_a_gradient():
  model = small("mbt2018")
  variables = jax.tree.map(jnp.asarray, load_weights(model))
  task, batch = Codec(), batch_of(n=2)

  def loss(params):
    outputs, _ = model.apply({"params": params}, batch, train=True, rngs={"dropout": jax.random.key(0)})
    return sum(total / weight for total, weight in task.loss(outputs, batch).values())

  gradient = jax.jit(jax.grad(loss))(variables["params"])
  dead = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
    if not np.isfinite(leaf).all() or not np.abs(leaf).max() > 0
  ]
  assert dead == []


def test_levels_are_drawn_over_the_whole_ladder_with_their_lambda():
  model, batch = small(), {"image": np.zeros((64, 64, 64, 3), np.uint8)}
  outputs, _ = model.apply(load_weights(model), batch, train=True, rngs={"dropout": jax.random.key(1)})
  drawn, known = np.asarray(outputs["lambda"]), LAMBDAS["mse"]
  assert known[0] <= drawn.min() < known[0] * 1.1
  assert known[2] / 1.1 < drawn.max() <= known[2] * (1 + 1e-6)
  np.testing.assert_allclose(outputs["balance"], (drawn / np.prod(known[:3]) ** (1 / 3)) ** -0.5, rtol=1e-5)


def test_a_single_rate_has_its_lambda_and_no_level():
  model = trainee("mbt2018-mean", quality=3, n=8, m=12, side=64)
  outputs, _ = model.apply(load_weights(model), batch_of(), train=True, rngs={"dropout": jax.random.key(1)})
  np.testing.assert_allclose(outputs["lambda"], LAMBDAS["mse"][2], rtol=1e-6)
  np.testing.assert_allclose(outputs["balance"], 1, rtol=1e-6)


def test_the_loss_is_what_was_published():
  """λ·255²·MSE + bits per pixel (Ballé et al. 2018), over pictures that are not masked."""
  image = photo(16, 16)
  batch = {"image": np.concatenate([image, image]), "mask": np.array([True, False])}
  x_hat = np.float32(batch["image"] / 255 + 0.01)
  ones = np.ones(2, np.float32)
  outputs = {"x_hat": x_hat, "bits": 512 * ones, "lambda": 0.013 * ones, "balance": ones, "auxiliary": jnp.float32(3)}
  terms = {name: float(total / weight) for name, (total, weight) in Codec().loss(outputs, batch).items()}
  assert terms == pytest.approx({"rate": 2.0, "distortion": 0.013 * 255**2 * 1e-4, "auxiliary": 3.0}, rel=1e-4)


def test_ms_ssim_with_a_gradient_is_the_one_that_scores():
  a, b = photo(192, 200, 1), photo(192, 200, 1).astype(np.int16)
  b = np.clip(b + np.random.default_rng(0).integers(-20, 20, b.shape), 0, 255).astype(np.uint8)
  x, y = (jnp.asarray(clip, jnp.float32) / 255 for clip in (a, b))
  assert float(similarity.ms_ssim(x, y)[0]) == pytest.approx(quality.ms_ssim(a, b), abs=2e-5)
  gradient = jax.grad(lambda x: similarity.ms_ssim(x, y).sum())(x)
  assert np.isfinite(gradient).all()
  assert np.isfinite(jax.grad(lambda x: similarity.ms_ssim(x, x * 0).sum())(x)).all()
  with pytest.raises(ValueError, match="expected sides from 161"):
    similarity.ms_ssim(x[:, :100], y[:, :100])


def test_scores():
  task = Codec()
  predictions = {"bits": [256.0, 512.0], "squared_error": [1e-3, 1e-4], "n_pixels": [256.0, 256.0]}
  records = task.statistics(predictions, {})
  stacked = {name: np.array([record[name] for record in records]) for name in records[0]}
  assert task.compute(stacked) == pytest.approx({"psnr": 35.0, "estimated_bpp": 1.5}, rel=1e-5)
  assert task.compute(stacked, np.array([0.0, 2.0])) == pytest.approx({"psnr": 40.0, "estimated_bpp": 2.0}, rel=1e-5)


def test_a_probe_stands_beside_the_losses(tmp_path):
  seen = []

  def probe(variables):
    seen.append(sorted(variables["params"]))
    return {"coded_bpp": 0.5}

  train(small(), tmp_path, probe=probe, checkpoint_every=3)
  lines = read_jsonl(tmp_path / "metrics.jsonl")
  assert [line["step"] for line in lines if "coded_bpp" in line] == [2, 5]
  assert len(seen) == 2
  assert "g_a" in seen[0]


def test_the_probe_itself_opens_the_test_pictures(tmp_path):
  """Which the first host alone calls, and whose errors do not end a training."""
  config = settings.default_config()
  config.task, config.data_dir, config.test_data = "codec", str(tmp_path), "pictures(path=nowhere):all"
  probe = study.Study(config, tmp_path / "work")._probe(small())
  with pytest.raises(DataError, match="no folder"):
    probe({})


def test_coded_bits_are_near_those_estimated():
  """What the probe of a model tells: an ideal coder's bits, and the bytes of a real one."""
  loaded = weights.load("mbt2018-mean", small_weights("mbt2018-mean"))  # which code more than zeros
  model = trainee("mbt2018-mean", n=loaded.n, m=loaded.m, levels=loaded.levels, side=64)
  numbers = model.probe([photo(96, 128, 5)])(loaded.variables)
  assert numbers.keys() == {"coded_bpp", "coded_psnr", "coded_over_estimated"}
  assert 0.9 < numbers["coded_over_estimated"] < 1.5  # a header and two strings on 12,288 pixels


def test_a_network_starts_from_a_related_one(tmp_path):
  mean = jax.tree.map(np.asarray, load_weights(small()))
  export(small(), mean, tmp_path / "mean.safetensors")
  text = f'mbt2018(levels=3,m=12,n=8,side=64,start="{tmp_path}/mean.safetensors")'
  model, files = named.load(text)
  assert model.name == "mbt2018(levels=3,m=12,n=8,side=64)"
  started = load_weights(as_start(model, files["start"]), files["start"])["params"]
  for part in ("g_a", "g_s", "h_a", "h_s", "gain_y", "entropy_bottleneck"):
    jax.tree.map(np.testing.assert_array_equal, started[part], mean["params"][part])
  assert "context_prediction" in started
  with pytest.raises(WeightsError, match="expected 00000000…; it is another file"):
    load_weights(dataclasses.replace(model, base=Weights("started:00000000")), files["start"])


def test_files_may_have_the_names_of_earlier_versions(tmp_path):
  variables = jax.tree.map(np.asarray, load_weights(small()))
  arrays = convert.to_foreign(variables, small().rules)
  old = {key.replace("entropy_bottleneck.matrices.", "entropy_bottleneck._matrix"): arrays[key] for key in arrays}
  assert old.keys() != arrays.keys()
  convert.write_safetensors(tmp_path / "old.safetensors", old)
  file = dataclasses.replace(small(), base=Weights(f"file:{provenance.sha256_file(tmp_path / 'old.safetensors')}"))
  for model in (file, as_start(small(), tmp_path / "old.safetensors")):
    model = dataclasses.replace(model, base=dataclasses.replace(model.base, seed=1))
    jax.tree.map(np.testing.assert_array_equal, load_weights(model, tmp_path / "old.safetensors"), variables)


def as_start(model, path):
  return dataclasses.replace(model, base=Weights(f"started:{provenance.sha256_file(path)}"))


def test_nothing_in_common_is_no_start(tmp_path):
  convert.write_safetensors(tmp_path / "other.safetensors", {"conv.weight": np.zeros((2, 2), np.float32)})
  with pytest.raises(WeightsError, match="no array that this network has too"):
    load_weights(as_start(small(), tmp_path / "other.safetensors"), tmp_path / "other.safetensors")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("mbt2018-mean", "expected a quality, or levels"),
    ("mbt2018-mean(quality=3,levels=2,n=8,m=8)", "expected a quality, or levels"),
    ("mbt2018-mean(levels=7,n=8)", "expected a quality, or levels"),
    ("mbt2018-mean(levels=9,n=8,m=8)", "expected 2 to 8"),
    ("mbt2018-mean(levels=1,n=8,m=8)", "expected 2 to 8"),
    ("mbt2018-mean(quality=9)", "quality runs from 1 to 8"),
    ("cheng2020-attn(quality=7)", "quality runs from 1 to 6"),
    ("mbt2018-mean(quality=0)", "expected a whole number from 1"),
    ("mbt2018-mean(quality=1,n=wide,m=8)", "expected a whole number from 2"),
    ("mbt2018-mean(quality=1,side=100)", "expected a multiple of 64 from 64 on"),
    ("mbt2018-mean(quality=1,metric=ms-ssim,side=128)", "expected a multiple of 64 from 192 on for ms-ssim"),
    ("mbt2018-mean(quality=1,mode=nosie)", "did you mean 'noise'"),
    ("mbt2018-mean(quality=1,wdith=3)", "no option of mbt2018-mean 'wdith'"),
    ("mbt2018-maen(quality=1)", "did you mean 'mbt2018-mean'"),
    ("mbt2018-mean(quality=1,weights=a,start=b)", "expected one of them"),
  ],
)
def test_names_that_say_no_network(text, message):
  with pytest.raises(SpecError, match=message):
    named.load(text)


def test_a_model_of_another_task_is_told(tmp_path):
  config = settings.default_config()
  config.models, config.test_data = ("mbt2018-mean(quality=1)",), "scenes:test"
  with pytest.raises(SpecError, match="is a model for codec; this study's task is classification"):
    study.Study(config, tmp_path)


def test_a_start_is_nothing_to_measure(tmp_path):
  config = settings.default_config()
  config.task, config.data_dir, config.test_data = "codec", str(tmp_path), "scenes:test"
  for name in ("one", "two"):
    (tmp_path / name).write_text(name)
  text = "mbt2018-mean(quality=1,n=8,m=8,start={})"
  config.models = (text.format("one"),)
  with pytest.raises(SpecError, match="there is no base_recipe"):
    study.Study(config, tmp_path).bench.base_weights("mbt2018-mean(m=8,n=8,quality=1)")
  config.models = (text.format("one"), text.format("two"))
  with pytest.raises(SpecError, match="is named twice, with other weights"):
    study.Study(config, tmp_path)


def test_names_are_canonical():
  name = "mbt2018-mean(levels=7,m=96,mode=ste,n=48)"
  assert named.load("mbt2018-mean(n=48,m=96,levels=7,mode=ste)")[0].name == name
  assert specs.parse_call(name)[0] == "mbt2018-mean"
  told = "mbt2018-mean(metric=ms-ssim,quality=3,side=256)"  # in the name, as other weights come of it
  assert named.load(told)[0].name == told
  assert named.load("mbt2018-mean(metric=mse,quality=3)")[0].name == "mbt2018-mean(quality=3)"
  assert {"codec", "codec-ms-ssim"} <= set(tasks.TASKS)
  assert tasks.load_task("codec-ms-ssim").distortion == "ms-ssim"
  assert pathlib.Path(weights.SHIPPED).name == "shipped"
