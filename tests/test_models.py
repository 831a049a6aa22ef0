"""The table of models: every row is checked against its reference's layout, every architecture against its numbers."""

import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import model_cases, seeded
from golden.model_cases import CASES, N_CLASSES

from robust_compress import convert, models
from robust_compress.types import InputSpec, ModelSpec, SpecError, Weights, WeightsError

GOLDEN = Path(__file__).parent / "golden" / "models"
STATE_DICTS = json.loads((GOLDEN / "state_dicts.json").read_text())
REFERENCED = [name for name in models.MODELS if name not in model_cases.WITHOUT_REFERENCE]
TINY = CASES["resnet_basic"]


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


@pytest.mark.parametrize("name", models.MODELS)
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
@pytest.mark.parametrize("name", sorted({row().build: name for name, row in models.MODELS.items()}.values()))
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
  with pytest.raises(SpecError, match="cannot be imported"):
    models.load_model("no.such.module:MODEL")
  with pytest.raises(SpecError, match="is a PosixPath; expected a ModelSpec"):
    models.load_model("pathlib:Path")


def test_own_models_load_by_attribute():
  assert models.load_model("tiny_model:MODEL").name == "tiny"


# --------------------------------------------------------------------------------- numbers of the reference


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_reference_s(name):
  model = spec_of(CASES[name])
  apply = jax.jit(model.module().apply)
  logits = apply(seeded_variables(model), seeded.picture(CASES[name].size, 4))
  assert_near(logits, np.load(GOLDEN / f"{name}.npz")["logits"])


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_is_the_reference_s(name):
  """Logits, running statistics (with PyTorch's unbiased variance) and every gradient of one step."""
  golden, model = dict(np.load(GOLDEN / f"{name}.npz")), spec_of(CASES[name])
  variables, module = seeded_variables(model), model.module()
  picture, labels = seeded.picture(CASES[name].size, 4), seeded.labels(4, N_CLASSES)

  rest = {key: value for key, value in variables.items() if key != "params"}

  def loss(params):
    logits, updated = module.apply({"params": params, **rest}, picture, train=True, mutable=list(rest))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), (logits, updated)

  gradients, (logits, updated) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  assert_near(logits, golden["train/logits"])
  found = convert.to_foreign({"params": gradients, **updated}, model.rules)
  for key, expected in golden.items():
    kind, _, foreign = key.partition("/")
    if "running_" in key:
      assert_near(found[foreign], expected, 1e-5)
    elif kind == "gradient":
      gradient = found[foreign].astype(np.float64)
      product = np.vdot(gradient, seeded.normal(f"direction {foreign}", gradient.shape))
      np.testing.assert_allclose([np.linalg.norm(gradient), product], expected, atol=1e-3 * expected[0] + 1e-6)
