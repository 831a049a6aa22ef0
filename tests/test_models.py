"""The table of models: every row is checked against its reference's layout, every architecture against its numbers."""

import dataclasses
import functools
import importlib
import json
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import model_cases, seeded
from golden.model_cases import CASES, N_CLASSES

from robust_compress import convert, models, provenance
from robust_compress.models.layers import BatchNorm, StochasticDepth
from robust_compress.types import InputSpec, ModelSpec, SpecError, Weights, WeightsError

GOLDEN = Path(__file__).parent / "golden" / "models"
STATE_DICTS = json.loads((GOLDEN / "state_dicts.json").read_text())
CLASSIFIERS = [name for name, row in models.MODELS.items() if isinstance(row, models.Classifier)]
REFERENCED = [name for name in CLASSIFIERS if name not in model_cases.WITHOUT_REFERENCE]
TINY = CASES["resnet_basic"]
TRAINED = [name for name in CASES if name not in ("swin", "swin_one_window")]  # swin_padded has all that they have

# These networks are compiled once and run once: half the compiler's work is enough.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def spec_of(case, **options):
  """A reduced network as a model like those of the table."""
  file, attribute = case.ours.split(":")
  module = importlib.import_module(f"robust_compress.models.{file}")
  model = ModelSpec(
    name=f"reduced {case.reference}",
    task="classification",
    build=getattr(module, attribute),
    input=InputSpec(case.size, None),
    base=Weights("random"),
    rules=getattr(module, case.rules),
  )
  return model.bound(**{"n_classes": N_CLASSES, **case.options, **options})


@functools.cache
def template_of(build, size):
  """Rows that share an architecture share its template."""
  return models.template(ModelSpec("", "classification", build, InputSpec(size, None), Weights()))


def foreign_shapes(model, template=None):
  """{key: shape} of the model's state_dict; zeros without memory stand for the arrays."""
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template or models.template(model))
  return {key: array.shape for key, array in convert.to_foreign(zeros, model.rules).items()}


def seeded_variables(model):
  arrays = seeded.state_dict(foreign_shapes(model))
  return convert.to_variables(arrays, model.rules, models.template(model), model.name)


def assert_near(actual, expected, tolerance=1e-4):
  scale = max(1.0, float(np.abs(expected).max()))
  np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, rtol=0, atol=tolerance)


# ---------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_row_has_the_parameters_it_states(name):
  model = models.load_model(name)
  shapes = jax.tree.leaves(template_of(model.build, model.input.size)["params"])
  assert sum(int(np.prod(leaf.shape)) for leaf in shapes) == model.n_params
  assert (model.name, model.task) == (name, "classification")
  assert model.base.source
  assert model.published is None or 0 < model.published.score < 1


@pytest.mark.parametrize("name", REFERENCED)
def test_row_translates_to_the_reference_state_dict(name):
  model = models.load_model(name)
  shapes = foreign_shapes(model, template_of(model.build, model.input.size))
  assert [len(shapes), seeded.digest(shapes)] == STATE_DICTS[name]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted({models.MODELS[name]().build: name for name in CLASSIFIERS}.values()))
def test_architecture_traces_in_both_types(name, dtype):
  model = models.load_model(name).bound(dtype=dtype, batch_norm="frozen", dropout=0.1)
  image = jax.ShapeDtypeStruct((2, *model.input.size, 3), jnp.uint8)

  def apply(variables, image):
    return model.apply(variables, {"image": image}, train=True, rngs={"dropout": jax.random.key(0)})[0]

  outputs = jax.eval_shape(apply, template_of(model.build, model.input.size), image)
  assert outputs.dtype == jnp.float32
  assert outputs.shape[0] == 2


def test_unknown_names_are_told_the_nearest():
  with pytest.raises(SpecError, match=r"no model 'resnet50.a1_in'; did you mean 'resnet50.a1_in1k'\?"):
    models.load_model("resnet50.a1_in")
  with pytest.raises(SpecError, match="cannot import"):
    models.load_model("no.such.module:MODEL")
  with pytest.raises(SpecError, match="is a PosixPath; expected a ModelSpec"):
    models.load_model("pathlib:Path")


def test_own_models_load_by_attribute():
  assert models.load_model("tiny_model:MODEL").name == "tiny"


# --------------------------------------------------------------------------------- numbers of the reference


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_reference_s(name):
  model = spec_of(CASES[name])
  apply = compiled(model.module().apply)
  logits = apply(seeded_variables(model), seeded.picture(CASES[name].size, 4))
  assert_near(logits, np.load(GOLDEN / f"{name}.npz")["logits"])


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_is_the_reference_s(name):
  """Logits, running statistics (with PyTorch's unbiased variance) and every gradient of one step."""
  golden, model = dict(np.load(GOLDEN / f"{name}.npz")), spec_of(CASES[name])
  variables, module = seeded_variables(model), model.module()
  picture, labels = seeded.picture(CASES[name].size, 4), seeded.labels(4, N_CLASSES)

  rest = {key: value for key, value in variables.items() if key != "params"}

  def loss(params):
    logits, updated = module.apply({"params": params, **rest}, picture, train=True, mutable=list(rest))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), (logits, updated)

  gradients, (logits, updated) = compiled(jax.grad(loss, has_aux=True))(variables["params"])
  assert_near(logits, golden["train/logits"])
  found = convert.to_foreign({"params": gradients, **updated}, model.rules)
  for key, expected in golden.items():
    kind, _, foreign = key.partition("/")
    if "running_" in key:
      assert_near(found[foreign], expected, 1e-5)
    elif kind == "gradient":
      actual = seeded.told(foreign, found[foreign].astype(np.float64))
      np.testing.assert_allclose(actual, expected, atol=1e-3 * expected[0] + 1e-5)


# ---------------------------------------------------------------------------------------------- batch norm


def batch_norm_step(mode, x, mesh):
  """(output, running statistics) of one training step over the mesh, x[b h w c] split along b."""
  module = BatchNorm(mode)
  variables = module.init(jax.random.key(0), x[:1], train=False)

  def step(x):
    y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    return y, jax.tree.map(lambda leaf: leaf[None], updated["batch_stats"])

  spec = jax.sharding.PartitionSpec("batch")
  return compiled(jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=(spec, spec)))(x)


def test_synchronised_batch_norm_does_not_see_how_many_devices_there_are():
  x = jnp.asarray(3 + 2 * seeded.normal("x", (4, 3, 5, 6)))
  one, two = (jax.sharding.Mesh(np.array(jax.devices()[:n]), ("batch",)) for n in (1, 2))
  expected, statistics = batch_norm_step("sync", x, one)
  actual, shared = batch_norm_step("sync", x, two)
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  for name in ("mean", "var"):
    np.testing.assert_allclose(shared[name], np.repeat(statistics[name], 2, 0), atol=1e-6)
  local, own = batch_norm_step("local", x, two)
  np.testing.assert_allclose(local[:2], batch_norm_step("local", x[:2], one)[0], atol=1e-6)
  assert np.abs(own["mean"][0] - own["mean"][1]).max() > 1e-3


def test_batch_norm_keeps_a_small_variance_beside_a_large_mean():
  x = jnp.asarray(100 + 0.01 * seeded.normal("x", (8, 4, 4, 3)))
  y = BatchNorm("local").init_with_output(jax.random.key(0), x, train=False)[1]
  out, _ = BatchNorm("local", epsilon=0.0).apply(y, x, train=True, mutable=["batch_stats"])
  exact = np.asarray(x, np.float64)
  expected = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
  np.testing.assert_allclose(out, expected, atol=1e-2)


def test_frozen_batch_norm_trains_on_its_running_statistics():
  model = spec_of(TINY, batch_norm="frozen")
  batch = {"image": np.random.default_rng(0).integers(0, 256, (2, *TINY.size, 3), np.uint8)}
  variables = seeded_variables(model)
  outputs, updated = compiled(functools.partial(model.apply, train=True))(variables, batch)
  np.testing.assert_array_equal(outputs, compiled(model.apply)(variables, batch)[0])
  jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
  with pytest.raises(ValueError, match="expected one of sync, local, frozen"):
    jax.eval_shape(spec_of(TINY, batch_norm="synced").apply, variables, batch)


def test_stochastic_depth_keeps_the_mean_and_drops_whole_examples():
  x = jnp.ones((4000, 2))
  y = StochasticDepth(0.25).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
  assert set(np.unique(y)) == {0, np.float32(4 / 3)}
  np.testing.assert_array_equal(y[:, 0], y[:, 1])
  assert abs(float(y.mean()) - 1) < 0.03
  np.testing.assert_array_equal(StochasticDepth(0.25).apply({}, x, False), x)


def test_swin_takes_pictures_smaller_than_its_window():
  case = CASES["swin"]
  model = spec_of(case)
  small = jax.eval_shape(model.module().apply, models.template(model), jnp.zeros((1, 10, 7, 3)))
  assert small.shape == (1, N_CLASSES)


@pytest.mark.parametrize("size", [(32, 32), (32, 128), (70, 70)])
def test_a_transformer_names_the_size_that_it_was_made_for(size):
  model = spec_of(CASES["vit"])
  with pytest.raises(SpecError, match=r"takes pictures of 64x64, not \d+x\d+; use input=model, or .* crop=64"):
    jax.eval_shape(model.module().apply, models.template(model), jnp.zeros((1, *size, 3)))


# -------------------------------------------------------------------------------------------- base weights


@pytest.fixture
def saved(tmp_path):
  """(model, its variables, a safetensors file of them)."""
  model = spec_of(CASES["vit"])
  variables = seeded_variables(model)
  convert.write_safetensors(tmp_path / "w.safetensors", convert.to_foreign(variables, model.rules))
  return model, variables, tmp_path / "w.safetensors"


def with_source(model, source):
  return dataclasses.replace(model, base=Weights(source))


def test_random_weights_are_a_function_of_the_seed():
  model = models.load_model("tiny_model:MODEL")
  seeds = [dataclasses.replace(model, base=Weights("random", seed=seed)) for seed in (0, 0, 1)]
  first, again, other = map(models.load_weights, seeds)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert not np.array_equal(first["params"]["head"]["kernel"], other["params"]["head"]["kernel"])


@pytest.mark.parametrize("keyed", ["path", "by source", "by name"])
def test_weights_come_from_the_file_of_that_hash(saved, keyed):
  model, variables, path = saved
  model = with_source(model, f"file:{provenance.sha256_file(path)}")
  files = {"path": path, "by source": {model.base.source: path}, "by name": {model.name: path}}[keyed]
  jax.tree.map(np.testing.assert_array_equal, models.load_weights(model, files), variables)
  with pytest.raises(WeightsError, match=r"expected 0000…; it is another file"):
    models.load_weights(with_source(model, "file:0000"), path)


def test_missing_weights_say_what_to_give(saved, monkeypatch):
  model, variables, path = saved
  with pytest.raises(WeightsError, match=r"give the path of its weights, net-0123abcd\.pth"):
    models.load_weights(with_source(model, "torchvision:net-0123abcd.pth"))
  with pytest.raises(WeightsError, match=r"expected 0123abcd…"):
    models.load_weights(with_source(model, "torchvision:net-0123abcd.pth"), path)
  with pytest.raises(WeightsError, match="expected random, file:…, timm:…, hub:…, torchvision:…, mmdet:… or mmseg:…"):
    models.load_weights(with_source(model, ""))
  jax.tree.map(np.testing.assert_array_equal, models.load_weights(with_source(model, "timm:x"), path), variables)
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(WeightsError, match=r"robust-compress\[hub\].*or give the path of its model\.safetensors"):
    models.load_weights(with_source(model, "timm:x"))


def test_an_unreachable_hub_says_how_to_go_on_without(saved, monkeypatch):
  def offline(*_):
    raise OSError("offline")

  monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=offline))
  with pytest.raises(WeightsError, match=r"timm/x is not in the hub's cache.*\(offline\); or give the path"):
    models.load_weights(with_source(saved[0], "timm:x"))


def test_bfloat16_files_become_float32(saved):
  model, variables, path = saved
  half = {key: jnp.asarray(value, jnp.bfloat16) for key, value in convert.read(path).items()}
  convert.write_safetensors(path, half)
  loaded = models.load_weights(with_source(model, "timm:x"), path)
  assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-2), loaded, variables)
