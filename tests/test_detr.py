"""DETR against transformers: outputs, detections, losses with their gradients, and the names of weights."""

import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import detr_cases, seeded
from golden.detr_cases import CASES

from robust_compress import convert, models
from robust_compress.models import dense, detr, detr_loss, detr_names
from robust_compress.types import InputSpec, Weights, WeightsError

GOLDEN = Path(__file__).parent / "golden" / "models"
STATE_DICTS = json.loads((GOLDEN / "detr_state_dicts.json").read_text())
PICTURES = detr_cases.padded(seeded.picture(detr_cases.SIZE))
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


@functools.cache
def model_of(name):
  case = CASES[name]
  build = functools.partial(
    detr.Detr,
    case.depths,
    case.dilated,
    case.trunk == "resnet50",
    detr_cases.TRUNK_WIDTHS,
    detr_cases.WIDTH,
    detr_cases.HEADS,
    detr_cases.HIDDEN,
    detr_cases.N_LAYERS,
    detr_cases.N_QUERIES,
    detr_cases.N_CLASSES,
  )
  spec = InputSpec(detr_cases.SIZE, None, fit="pad", multiple=32)
  return dense.Detector("reduced", "detection", build, spec, Weights("random"), detr.RULES, own_loss=dense.own_loss)


@functools.cache
def template_of(name):
  return models.template(model_of(name))


def foreign_shapes(template, rules):
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
  return {key: array.shape for key, array in convert.to_foreign(zeros, rules).items()}


@functools.cache
def variables_of(name):
  arrays = detr_cases.apart(seeded.state_dict(foreign_shapes(template_of(name), detr_names.MODULE_RULES)))
  return convert.to_variables(arrays, detr_names.MODULE_RULES, template_of(name))


def targets_of(k=5):
  """Those of the goldens, padded to k, with a crowd that is not learned from."""
  boxes, labels, kinds = np.zeros((2, k, 4), np.float32), np.full((2, k), -1, np.int32), np.zeros((2, k), np.uint8)
  for i, (found, names) in enumerate(zip(detr_cases.BOXES, detr_cases.LABELS)):
    at = np.arange(len(found)) if i == 0 else k - 1 - np.arange(len(found))  # padding may stand before
    boxes[i, at], labels[i, at] = found, names
  boxes[0, -1], labels[0, -1], kinds[0, -1] = (0, 0, 50, 50), 2, 1
  return {"boxes": boxes, "box_labels": labels, "box_kinds": kinds, "mask": np.ones(2, bool)}


def assert_near(actual, expected, tolerance=1e-5):
  scale = max(1.0, float(np.abs(expected).max()))
  np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_outputs_of_padded_pictures_are_the_reference_s(name):
  golden, module = np.load(GOLDEN / f"{name}.npz"), model_of(name).module()
  predict = compiled(functools.partial(module.apply, method="predict", train=False))
  logits, boxes = predict(variables_of(name), PICTURES, detr_cases.SIZES)
  assert_near(logits[-1], golden["logits"])
  assert_near(boxes[-1], golden["boxes"])
  found = detr.detections(logits[-1], boxes[-1], detr_cases.SIZES)
  for i, (height, width) in enumerate(detr_cases.SIZES):
    order = np.argsort(-golden["detections/scores"][i], kind="stable")
    edges = np.array([width, height, width, height], np.float32)
    assert_near(found["scores"][i], golden["detections/scores"][i][order])
    np.testing.assert_array_equal(found["labels"][i], golden["detections/labels"][i][order])
    assert_near(found["boxes"][i], np.clip(golden["detections/boxes"][i][order], 0, edges))


@pytest.mark.parametrize("name", detr_cases.TRAINED)
def test_losses_and_gradients_are_the_reference_s(name):
  golden = np.load(GOLDEN / f"{name}.npz")

  def total(params):
    variables, module = {**variables_of(name), "params": params}, model_of(name).module()
    outputs, _ = module.apply(variables, PICTURES, detr_cases.SIZES, targets_of(), train=True, mutable=["batch_stats"])
    terms = outputs["losses"]
    means = {key: value / weight for key, (value, weight) in terms.items()}
    return sum(means.values()), means

  gradients, means = compiled(jax.grad(total, has_aux=True))(variables_of(name)["params"])
  for ours, theirs in (("class", "ce"), ("l1", "bbox"), ("giou", "giou")):
    before = sum(golden[f"loss/loss_{theirs}_{i}"] for i in range(detr_cases.N_LAYERS[1] - 1))
    np.testing.assert_allclose(means[ours], golden[f"loss/loss_{theirs}"], rtol=1e-4)
    np.testing.assert_allclose(means[f"auxiliary_{ours}"], before, rtol=1e-4)
  found = convert.to_foreign({"params": gradients}, detr_names.MODULE_RULES)
  checked = [key for key in golden if key.startswith("gradient/")]
  for key in checked:
    foreign = key.removeprefix("gradient/")
    actual = seeded.told(foreign, found[foreign].astype(np.float64))
    np.testing.assert_allclose(actual, golden[key], rtol=0, atol=1e-3 * golden[key][0] + 1e-5, err_msg=key)
  assert len(checked) > 100


def answers(n=2):
  """Logits and boxes of three layers for n pictures."""
  logits = seeded.normal("logits", (n, 3, detr_cases.N_QUERIES, detr_cases.N_CLASSES + 1))
  boxes = 1 / (1 + np.exp(-seeded.normal("boxes", (n, 3, detr_cases.N_QUERIES, 4))))
  return jnp.swapaxes(logits, 0, 1), jnp.swapaxes(boxes, 0, 1)


def test_rows_beyond_the_data_and_padding_change_no_loss():
  expected = compiled(detr_loss.losses)(*answers(), detr_cases.SIZES, targets_of())
  more = {key: np.concatenate([value, value[::-1]]) for key, value in targets_of(9).items()}
  more["mask"][2:] = False
  sizes = np.concatenate([detr_cases.SIZES, np.zeros((2, 2), np.int32)])  # as of rows that fill up a batch
  logits, boxes = (jnp.concatenate([x, x], 1) for x in answers())

  def total(logits, boxes):
    terms = detr_loss.losses(logits, boxes, sizes, more)
    return sum(value for value, _ in terms.values()), terms

  gradients, found = compiled(jax.grad(total, (0, 1), has_aux=True))(logits, boxes)
  for key, (value, weight) in expected.items():
    np.testing.assert_allclose(found[key][0], value, rtol=1e-5)
    np.testing.assert_allclose(found[key][1], weight, rtol=1e-6)
  for gradient in gradients:
    assert np.abs(gradient[:, :2]).max() > 0
    assert (gradient[:, 2:] == 0).all()


def test_pictures_without_objects_teach_that_there_is_none():
  targets = targets_of() | {"box_labels": np.full((2, 5), -1, np.int32)}
  terms = compiled(detr_loss.losses)(*answers(), detr_cases.SIZES, targets)
  np.testing.assert_allclose(terms["class"][1], 2 * detr_cases.N_QUERIES * detr_loss.NO_OBJECT, rtol=1e-6)
  assert terms["class"][0] > 0
  assert terms["l1"] == terms["giou"] == (0, 0)


def test_more_objects_than_queries_leave_some_without():
  rng, k = np.random.default_rng(0), 3 * detr_cases.N_QUERIES
  corner = rng.uniform(0, 60, (2, k, 2))
  boxes = np.concatenate([corner, corner + rng.uniform(2, 9, (2, k, 2))], -1).astype(np.float32)
  targets = {"boxes": boxes, "box_labels": rng.integers(0, 5, (2, k)).astype(np.int32)}
  targets |= {"box_kinds": np.zeros((2, k), np.uint8), "mask": np.ones(2, bool)}
  terms = compiled(detr_loss.losses)(*answers(), detr_cases.SIZES, targets)
  assert terms["l1"][1] == terms["class"][1] == 2 * detr_cases.N_QUERIES


def test_the_mask_is_that_of_nearest_interpolation():
  mask = detr.inside(jnp.int32([[65, 32], [64, 33]]), (96, 96), (3, 3))
  np.testing.assert_array_equal(mask.sum(1)[:, 0], [3, 2])
  np.testing.assert_array_equal(mask.sum(2)[:, 0], [1, 2])


def test_dropout_acts_in_training_alone():
  x, mask = seeded.normal("x", (1, 6, 8)), np.ones((1, 6), bool)

  @functools.partial(compiled, static_argnums=(0, 1))
  def run(dropout, train, seed):
    layer, rngs = detr.Layer(4, 16, dropout), {"params": jax.random.key(0), "dropout": jax.random.key(seed)}
    return layer.init_with_output(rngs, x, x, mask, train=train)[0]

  assert np.abs(run(0.5, True, 1) - run(0.5, True, 2)).max() > 1e-3
  np.testing.assert_allclose(run(0.5, False, 1), run(0.0, True, 2), atol=1e-6)


def test_nothing_to_attend_to_is_no_error():
  """Rows that fill up a batch may have no size."""
  x, mask = seeded.normal("x", (2, 6, 8)), np.array([[True] * 3 + [False] * 3, [False] * 6])
  init = functools.partial(detr.Layer(2, 16, 0.0).init_with_output, train=False)
  assert np.isfinite(compiled(init)(jax.random.key(0), x, x, mask)[0]).all()


# --------------------------------------------------------------------------------------------- names of weights


@pytest.mark.parametrize("name", STATE_DICTS)
def test_rows_have_the_names_of_transformers(name):
  template = models.template(models.load_model(f"{name}.coco"))
  for where, rules in (("module", detr_names.MODULE_RULES), ("file", detr.RULES)):
    shapes = foreign_shapes(template, rules)
    assert [len(shapes), seeded.digest(shapes)] == STATE_DICTS[name][where]


def test_what_the_release_leaves_as_it_is_is_not_trained():
  """Its backbone.py: of the trunk, the convolutions of the last three stages learn."""
  model = models.load_model("detr_resnet50.coco")
  [(fixed, rate)] = model.own_rates
  assert rate == 0
  paths = [path for path in convert.flatten(models.template(model)) if path.startswith("params/")]
  trained = {path for path in paths if not re.search(fixed, path)}
  assert {path for path in paths if "/backbone/" not in path} <= trained
  last = r"params/backbone/layer[234]_\d+/(conv\d|downsample_0)/kernel"
  assert {path for path in trained if "/backbone/" in path} == {path for path in paths if re.fullmatch(last, path)}


@pytest.mark.parametrize("name", STATE_DICTS)
def test_rows_trace_in_bfloat16_and_have_the_parameters_they_state(name):
  model = models.load_model(f"{name}.coco").bound(dtype="bfloat16", batch_norm="frozen", dropout=0.1)
  template = models.template(model)
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(template["params"])) == model.n_params
  batch = {"image": jnp.zeros((2, 96, 128, 3), jnp.uint8)} | targets_of()

  def apply(train, variables, batch):
    return model.apply(variables, batch, train=train, rngs={"dropout": jax.random.key(0)})[0]

  found = jax.eval_shape(functools.partial(apply, False), template, batch)
  shapes = {key: (leaf.shape, str(leaf.dtype)) for key, leaf in found.items()}
  boxes, rest = ((2, 100, 4), "float32"), (2, 100)
  assert shapes == {"boxes": boxes, "scores": (rest, "float32"), "labels": (rest, "int32")}
  losses = jax.eval_shape(functools.partial(apply, True), template, batch)["losses"]
  assert {leaf.dtype for pair in losses.values() for leaf in pair} == {jnp.dtype("float32")}


def released(arrays):
  """The names of the release for those of transformers' files, written down from its module definitions."""
  renamed, packed = {}, {}
  for key, value in arrays.items():
    key = key.replace("model.backbone.conv_encoder.model.", "backbone.0.body.")
    key = key.replace("model.input_projection.", "input_proj.").replace(
      "model.query_position_embeddings.", "query_embed."
    )
    key = key.replace("class_labels_classifier.", "class_embed.").replace("bbox_predictor.", "bbox_embed.")
    key = key.replace("model.encoder.", "transformer.encoder.").replace("model.decoder.", "transformer.decoder.")
    key = key.replace("decoder.layernorm.", "decoder.norm.").replace(".fc1.", ".linear1.").replace(".fc2.", ".linear2.")
    key = key.replace(".encoder_attn_layer_norm.", ".norm2.").replace(".self_attn_layer_norm.", ".norm1.")
    key = key.replace(".final_layer_norm.", ".norm3." if "decoder" in key else ".norm2.")
    key = key.replace(".encoder_attn.", ".multihead_attn.")
    for part in "qkv":
      if f".{part}_proj." in key:
        stem, kind = key.split(f".{part}_proj.")
        packed.setdefault(f"{stem}.in_proj_{kind}", []).append((("q", "k", "v").index(part), value))
        break
    else:
      renamed[key] = value
  return renamed | {
    key: np.concatenate([v for _, v in sorted(parts, key=lambda x: x[0])]) for key, parts in packed.items()
  }


def test_the_release_s_layout_holds_the_same_weights():
  """The release cannot be run here: its names are derived from those of transformers' files."""
  variables = variables_of("detr_dc5")
  arrays = released(convert.to_foreign(variables, detr.RULES))
  assert arrays.keys() >= {
    "transformer.encoder.layers.1.self_attn.in_proj_weight",
    "transformer.decoder.layers.2.multihead_attn.out_proj.bias",
    "transformer.decoder.norm.weight",
    "backbone.0.body.layer4.1.bn3.running_var",
    "bbox_embed.layers.2.weight",
  }
  found = convert.to_foreign(variables, detr_names.OFFICIAL_RULES)
  assert found.keys() == arrays.keys()
  for key, array in arrays.items():
    np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize(
  "rules", [detr.RULES, detr_names.MODULE_RULES, detr_names.OFFICIAL_RULES], ids=["hub", "module", "release"]
)
def test_every_layout_is_read(rules):
  arrays = convert.to_foreign(variables_of("detr"), rules)
  found = convert.to_variables(arrays, detr.READING, template_of("detr"))
  jax.tree.map(np.testing.assert_array_equal, found, variables_of("detr"))
  arrays.pop(next(iter(arrays)))
  with pytest.raises(WeightsError, match=r"1 of the model's .* are unfilled"):
    convert.to_variables(arrays, detr.READING, template_of("detr"))
