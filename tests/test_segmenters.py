"""Segmenters: every row against its reference's layout, reduced networks against its numbers, and windows."""

import dataclasses
import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import seeded
from golden.segmenter_cases import AUXILIARY, CASES, MEAN, N_CLASSES, N_PICTURES, STD, STEP

from robust_compress import convert, models
from robust_compress.data import labels
from robust_compress.models import dense, sampling, segnet, swin_features, upernet
from robust_compress.models.segmenters import SEGMENTERS
from robust_compress.types import InputSpec, SpecError, Weights, WeightsError

GOLDEN = Path(__file__).parent / "golden" / "segmenters"
LAYOUTS = json.loads((GOLDEN / "layouts.json").read_text())
NAMES = [row.name for row in SEGMENTERS]
HEADS = ("seg/bias", "_1_D/bias", "scores/bias")  # of MMSegmentation, SegNet and nano
TRAINED = [name for name in CASES if name != "upernet_transformers"]

# These networks are compiled once and run once: half the compiler's work is enough.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def spec_of(case, window=None, **options):
  """A reduced network as a row of the table would have it."""
  file, attribute = case.ours.split(":")
  module = importlib.import_module(f"robust_compress.models.{file}")
  raw = {"mean": (0, 0, 0), "std": (1 / 255,) * 3} if file == "segnet" else {"mean": MEAN, "std": STD}
  model = dense.Segmenter(
    name=attribute,
    task="segmentation",
    build=functools.partial(getattr(module, attribute), **backbone_of(case)),
    input=InputSpec(case.size, None, **raw, fit="pad"),
    base=Weights("random"),
    rules=getattr(module, case.rules),
    window=window,
  )
  bound = {key: value for key, value in case.options.items() if key != "backbone"}
  return model.bound(**{"n_classes": N_CLASSES, **bound, **options})


def backbone_of(case):
  if "backbone" not in case.options:
    return {}
  name, *arguments = case.options["backbone"]
  if name == "Features":
    return {"backbone": functools.partial(swin_features.Features, **arguments[0]), "head_dropout": 0.0}
  return {"backbone": functools.partial(upernet.resnet_v1c, arguments[0], **arguments[1])}


def seeded_variables(model):
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), models.template(model))
  shapes = {key: array.shape for key, array in convert.to_foreign(zeros, model.rules).items()}
  return convert.to_variables(seeded.state_dict(shapes), model.rules, models.template(model), model.name)


def assert_near(actual, expected, tolerance=1e-5):
  scale = max(1.0, float(np.abs(expected).max()))
  np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, rtol=0, atol=tolerance)


@functools.cache
def evaluated(name, window=None):
  model = spec_of(CASES[name], window)
  batch = {"image": seeded.photo(CASES[name].size, N_PICTURES)}
  return np.asarray(compiled(lambda variables: model.apply(variables, batch)[0]["logits"])(seeded_variables(model)))


# ---------------------------------------------------------------------------------------------- the table


@functools.cache
def template_of(build):
  return jax.eval_shape(lambda: build().init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))


@pytest.mark.parametrize("name", NAMES)
def test_row_has_the_parameters_and_classes_it_states(name):
  model = models.load_model(name)
  params = template_of(model.build)["params"]
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == model.n_params
  assert (model.name, model.task) == (name, "segmentation")
  assert model.published is None or 0 < model.published.score < 1
  if model.classes != "source":
    biases = [leaf.shape for path, leaf in convert.flatten(params).items() if path.endswith(HEADS)]
    assert (len(labels.class_list(model.classes)),) in biases


@pytest.mark.parametrize("name", [name for name in NAMES if name in LAYOUTS])
def test_row_translates_to_the_reference_state_dict(name):
  model = models.load_model(name)
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template_of(model.build))
  arrays = convert.to_foreign(zeros, model.rules)
  shapes = {key: array.shape for key, array in arrays.items()}
  assert [len(shapes), seeded.digest(shapes)] == LAYOUTS[name]
  read = convert.to_variables(arrays, model.reading or model.rules, template_of(model.build), name)
  assert jax.tree.structure(read) == jax.tree.structure(template_of(model.build))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted({row.builder: row.name for row in SEGMENTERS}.values()))
def test_architecture_traces_in_both_types(name, dtype):
  model = models.load_model(name).bound(dtype=dtype, batch_norm="frozen", dropout=0.1)
  image = jax.ShapeDtypeStruct((2, 96, 128, 3), jnp.uint8)

  def apply(variables, image):
    return model.apply(variables, {"image": image}, train=True, rngs={"dropout": jax.random.key(0)})[0]

  found = jax.eval_shape(apply, template_of(model.build), image)
  assert {"logits"} <= found.keys() <= {"logits", "auxiliary"}
  for logits in found.values():
    assert (logits.dtype, logits.shape[:3]) == (jnp.float32, image.shape[:3])


def test_files_of_mmsegmentation_are_asked_for_by_name(tmp_path):
  model = models.load_model("deeplabv3_r18-d8.mmseg_cityscapes769")
  with pytest.raises(WeightsError, match=r"give the path of its weights, deeplabv3_r18-d8_769x769_.*-6452126a\.pth"):
    models.load_weights(model)
  (tmp_path / "w.pth").write_bytes(b"")
  with pytest.raises(WeightsError, match="expected 6452126a…"):
    models.load_weights(model, tmp_path / "w.pth")


# --------------------------------------------------------------------------------- numbers of the reference


@pytest.mark.parametrize("name", CASES)
def test_logits_and_classes_are_the_reference_s(name):
  golden, logits = np.load(GOLDEN / f"{name}.npz"), evaluated(name)
  assert_near(logits[:, ::STEP, ::STEP], golden["logits"])
  if "classes" in golden:
    best = np.sort(logits, -1)
    decided = best[..., -1] - best[..., -2] > 1e-4 * np.abs(logits).max()
    assert decided.mean() > 0.99
    np.testing.assert_array_equal(logits.argmax(-1)[decided], golden["classes"][decided])


def test_both_layouts_of_swin_say_what_their_references_agree_on():
  """One network, whose weights in MMSegmentation's order of merged pixels are others by name, and random."""
  mmseg, hub = (spec_of(CASES[name]) for name in ("upernet_swin", "upernet_transformers"))
  variables = seeded_variables(mmseg)
  found = convert.to_variables(convert.to_foreign(variables, hub.rules), hub.rules, models.template(hub))
  jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.window])
def test_windows_are_the_reference_s(name):
  golden = np.load(GOLDEN / f"{name}.npz")
  assert_near(evaluated(name, CASES[name].window)[:, ::STEP, ::STEP], golden["slid"])


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_is_the_reference_s(name):
  """Both heads' logits, running statistics and every gradient of one step.

  The reference's are float64. In float32 a number may fall on the other side of a ReLU or win a pool instead of its
  neighbour, and then the gradients before it are some per cent off; computed in float64 they agree to 1e-4.
  """
  golden, case = dict(np.load(GOLDEN / f"{name}.npz")), CASES[name]
  model = spec_of(case)
  variables = seeded_variables(model)
  batch = {"image": seeded.photo(case.size, N_PICTURES)}
  classes = seeded.segmentation(case.size, N_PICTURES, N_CLASSES).astype(np.int32)
  counts = (classes < 255).astype(np.float32)
  rest = {key: value for key, value in variables.items() if key != "params"}

  def mean(logits):
    terms = optax.softmax_cross_entropy_with_integer_labels(logits, np.minimum(classes, N_CLASSES - 1))
    return (counts * terms).sum() / counts.sum()

  def loss(params):
    outputs, updated = model.apply({"params": params, **rest}, batch, train=True)
    total = mean(outputs["logits"])
    if "auxiliary" in outputs:
      total += AUXILIARY * mean(outputs["auxiliary"])
    return total, (outputs, updated)

  gradients, (outputs, updated) = compiled(jax.grad(loss, has_aux=True))(variables["params"])
  for key, logits in outputs.items():
    assert_near(logits[:, ::STEP, ::STEP], golden[f"train/{key}"], 1e-4)
  found = convert.to_foreign({"params": gradients, **updated}, model.rules)
  for key, expected in golden.items():
    kind, _, foreign = key.partition("/")
    if "running_" in key:
      assert_near(found[foreign], expected, 1e-5)
    elif kind == "gradient":
      actual = seeded.told(foreign, found[foreign].astype(np.float64))
      np.testing.assert_allclose(actual, expected, atol=0.1 * expected[0] + 1e-5, err_msg=key)


# ------------------------------------------------------------------------------------------------- windows


class Coordinates:
  """A network whose logits say where in its window a pixel lies, and which window that was."""

  def apply(self, variables, image, train):
    y, x = (jnp.arange(n, dtype=jnp.float32) for n in image.shape[1:3])
    here = jnp.stack(jnp.broadcast_arrays(y[:, None], x[None]), -1)
    return {"logits": jnp.concatenate([jnp.broadcast_to(here, (*image.shape[:3], 2)), image], -1)}


@pytest.mark.parametrize("size", [(10, 10), (10, 23), (25, 17), (8, 30), (11, 10)])
def test_windows_cover_a_picture_and_are_averaged(size):
  """MMSegmentation's rule written out pixel by pixel: the last window is shifted back inside."""
  side, stride = 10, 7
  model = dense.Segmenter(
    "s",
    "segmentation",
    Coordinates,
    InputSpec(size, None, mean=(0, 0, 0), std=(1, 1, 1)),
    Weights(),
    window=(side, stride),
  )
  image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
  outputs, _ = model.apply({}, {"image": image})
  expected, count = np.zeros((2, *size, 5)), np.zeros(size)
  for i in range(max(size[0] - side + stride - 1, 0) // stride + 1):
    for j in range(max(size[1] - side + stride - 1, 0) // stride + 1):
      bottom, right = min(i * stride + side, size[0]), min(j * stride + side, size[1])
      top, left = max(bottom - side, 0), max(right - side, 0)
      for y in range(top, bottom):
        for x in range(left, right):
          expected[:, y, x] += np.concatenate([np.tile([y - top, x - left], (2, 1)), image[:, y, x] / 255], 1)
          count[y, x] += 1
  assert count.min() >= 1
  np.testing.assert_allclose(outputs["logits"], expected / count[..., None], rtol=1e-6)


def test_training_sees_no_windows():
  model = dataclasses.replace(models.load_model("nano_seg.random"), window=(32, 16))
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
  outputs = jax.eval_shape(
    lambda v, i: model.apply(v, {"image": i}, train=True)[0]["logits"], template_of(model.build), image
  )
  assert outputs.shape == (1, 64, 64, 11)


# ------------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("n", "to"), [(3, 7), (5, 5), (1, 4), (6, 1), (8, 3), (2, 17)])
def test_bilinear_weights_are_where_the_pixels_are(n, to, align_corners):
  """A straight line stays one between the corners, at the places that either convention names."""
  line = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (1, n, 2, 1))
  made = np.asarray(sampling.resize(jnp.asarray(line), (to, 2), align_corners))[0, :, 0, 0]
  at = np.arange(to) * (n - 1) / max(to - 1, 1) if align_corners else (np.arange(to) + 0.5) * n / to - 0.5
  np.testing.assert_allclose(made, np.clip(at, 0, n - 1), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(6, 12), (25, 25), (7, 4), (2, 3)])
def test_bins_are_uneven_where_they_do_not_divide(size, n):
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  made = np.asarray(sampling.adaptive_pool(jnp.asarray(x), n))
  for i in range(n):
    for j in range(n):
      rows, columns = (slice(k * side // n, -(-(k + 1) * side // n)) for k, side in zip((i, j), size))
      np.testing.assert_allclose(made[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-5)


# -------------------------------------------------------------------------------------------------- SegNet


def test_unpooling_puts_maxima_back_where_they_were():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32))
  pooled, at = segnet.pool(x)
  assert (pooled.shape, at.dtype) == ((2, 3, 4, 3), jnp.uint8)
  back = segnet.unpool(pooled, at, (5, 7))
  assert back.shape == x.shape
  np.testing.assert_array_equal(back[back != 0], x[back != 0])
  assert int((back != 0).sum()) == pooled.size
  np.testing.assert_array_equal(
    segnet.pool(jnp.abs(x))[0], segnet.pool(segnet.unpool(*segnet.pool(jnp.abs(x)), (5, 7)))[0]
  )


def test_the_first_of_equal_maxima_is_meant_and_alone_learns():
  x = jnp.ones((1, 2, 3, 1))
  pooled, at = segnet.pool(x)
  assert int(at.max()) == 0
  np.testing.assert_array_equal(jax.grad(lambda x: segnet.pool(x)[0].sum())(x)[0, :, :, 0], [[1, 0, 1], [0, 0, 0]])
  np.testing.assert_array_equal(segnet.unpool(pooled, at, (2, 3))[0, :, :, 0], [[1, 0, 1], [0, 0, 0]])


def test_rare_classes_of_camvid_weigh_more():
  classes = np.full((2, 4, 6), 255, np.uint8)
  classes[0, 0, :3], classes[0, 1, 0], classes[1] = 3, 6, 10
  logits = np.random.default_rng(0).normal(size=(2, 4, 6, 11)).astype(np.float32)
  batch = {"segmentation": classes, "mask": np.array([True, False])}
  [(name, (total, weight))] = segnet.camvid_loss({"logits": logits}, batch).items()
  log_p = np.asarray(jax.nn.log_softmax(logits))
  expected = -0.1417 * log_p[0, 0, :3, 3].sum() - 9.6446 * log_p[0, 1, 0, 6]
  assert (name, float(weight)) == ("cross_entropy", 4)
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  with pytest.raises(SpecError, match=r"CamVid's 11 classes and the network has 19"):
    segnet.camvid_loss({"logits": np.zeros((2, 4, 6, 19))}, batch)


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg16"])
def test_training_starts_from_torchvision_s_vgg(name):
  """Every convolution of the file goes to the layer of its place; the first sees colours the other way round."""
  model = models.load_model(f"segnet.{name}")
  given = {key: np.full(shape, i, np.float32) for i, (key, shape) in enumerate(LAYOUTS[name].items())}
  given["features.0.weight"][:, 0] = -1  # red
  wanted = convert.flatten(template_of(model.build))
  found = convert.matching(given, model.reading, wanted)
  counters = sum(key.endswith("num_batches_tracked") for key in given)
  assert len(found) == len(given) - counters
  kernels = [path for path in found if path.endswith("/kernel")]
  assert kernels == [f"params/{layer}/kernel" for layer in segnet.ENCODER]
  numbers = [found[path].flat[-1] for path in kernels]
  assert numbers == sorted(numbers)
  np.testing.assert_array_equal(found["params/conv1_1/kernel"][0, 0, :, 0], [0, 0, -1])


# --------------------------------------------------------------------------------------------- small machines


def test_the_small_segmenter_starts_from_the_small_classifier():
  classifier, model = models.load_model("nano.scenes"), models.load_model("nano_seg.random")
  given = convert.to_foreign(models.load_weights(classifier), classifier.rules)
  found = convert.matching(given, model.rules, convert.flatten(template_of(model.build)))
  lacking = set(given) - set(convert.to_foreign(convert.unflatten(found), model.rules))
  assert lacking == {"fc.weight", "fc.bias"}


def test_the_small_segmenter_learns():
  """Stripes by their direction, in fifteen steps."""
  model = models.load_model("nano_seg.random")
  module = model.build(n_classes=2, widths=(8, 8), neck=8)
  stripes = np.where(np.arange(32) % 8 < 4, 1.0, -1.0).astype(np.float32)
  classes = np.stack([np.repeat([[0, 1]], 32, 0), np.repeat([[1, 0]], 32, 0)]).repeat(32, -1).astype(np.int32)
  down, across = np.broadcast_to(stripes[:, None], (32, 32)), np.broadcast_to(stripes, (32, 32))
  image = np.stack([np.hstack([down, across]), np.hstack([across, down])])[..., None].repeat(3, -1)
  variables = module.init(jax.random.key(0), image, train=False)
  optimizer = optax.sgd(0.3, momentum=0.9)

  @compiled
  def step(variables, state):
    def loss(params):
      outputs, updated = module.apply({**variables, "params": params}, image, train=True, mutable=["batch_stats"])
      terms = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], classes)
      return terms.mean(), updated

    (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    change, state = optimizer.update(gradient, state)
    return {"params": optax.apply_updates(variables["params"], change), **updated}, state, value

  state, losses = optimizer.init(variables["params"]), []
  for _ in range(15):
    variables, state, value = step(variables, state)
    losses.append(float(value))
  assert losses[-1] < 0.3 < losses[0]
