"""DDOD against MMDetection on seeded weights: what its head says, detections, assignments, losses, gradients."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import ddod_cases as cases
from golden import seeded
from jax.sharding import PartitionSpec as P

from robust_compress import convert, models
from robust_compress.models import boxes, ddod, ddod_boxes, ddod_loss, padding

HERE = Path(__file__).parent / "golden"
GOLDEN = np.load(HERE / "ddod.npz")
PADDED = (160, 224)  # a canvas larger than the cases' pictures have alone
NET = ddod.DDOD(cases.N_CLASSES, cases.DEPTHS, cases.WIDTHS, cases.CHANNELS)

THEIRS = {"class": "loss_cls", "box": "loss_bbox", "iou": "loss_iou"}

compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def template(net):
  image, sizes = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32), jax.ShapeDtypeStruct((1, 2), jnp.int32)
  return jax.eval_shape(functools.partial(net.init, targets=None, train=False), jax.random.key(0), image, sizes)


def foreign_shapes(net):
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template(net))
  return {key: array.shape for key, array in convert.to_foreign(zeros, ddod.RULES).items()}


@functools.cache
def variables():
  return convert.to_variables(cases.weights(foreign_shapes(NET)), ddod.RULES, template(NET), "reduced")


def targets(objects, n=6):
  """Objects padded to n a picture, with a crowd that nothing is learned from."""
  places, labels = np.zeros((len(objects), n, 4), np.float32), np.full((len(objects), n), -1, np.int32)
  kinds = np.zeros((len(objects), n), np.uint8)
  for i, (found, names) in enumerate(objects):
    k = len(found)
    places[i, :k], labels[i, :k] = found, names
    places[i, k], labels[i, k], kinds[i, k] = (20, 20, 70, 70), 2, 1
  mask = np.ones(len(objects), bool)
  return jax.tree.map(jnp.asarray, {"boxes": places, "box_labels": labels, "box_kinds": kinds, "mask": mask})


def said():
  """The cases' answers of a head as ours has them."""
  parts = [[part.reshape(2, -1, part.shape[-1]) for part in level] for level in cases.said()]
  logits, deltas, iou = (jnp.asarray(np.concatenate(found, 1)) for found in zip(*parts, strict=True))
  return ddod_boxes.Raw(logits, deltas, iou[..., 0], cases.LEVELS)


def visible(sizes, canvas, levels):
  extent = padding.rounded(jnp.asarray(sizes), 32)
  return jnp.concatenate([padding.inside(extent, canvas, level).reshape(len(sizes), -1) for level in levels], 1)


# ------------------------------------------------------------------------------------------------ the network


def test_the_published_network_has_mmdetection_s_keys_and_shapes():
  shapes = foreign_shapes(ddod.DDOD())
  assert [len(shapes), seeded.digest(shapes)] == json.loads((HERE / "ddod.json").read_text())


@pytest.fixture(scope="module")
def evaluated():
  """(`Raw`, detections) of both pictures in a batch, on a canvas larger than they have alone."""

  def run(variables, image):
    sizes, heads = jnp.asarray(cases.SIZES), lambda module, _: module.name == "bbox_head"
    outputs, kept = NET.apply(variables, image, sizes, capture_intermediates=heads)
    return kept["intermediates"]["bbox_head"]["__call__"][0]._replace(levels=()), outputs

  with jax.default_matmul_precision("highest"):
    return compiled(run)(variables(), cases.image(PADDED))


def test_the_head_says_what_it_says_of_a_picture_alone(evaluated):
  raw, _ = evaluated
  levels = [tuple(-(-n // stride) for n in PADDED) for stride in ddod_boxes.STRIDES]
  seen = np.asarray(visible(cases.SIZES, PADDED, levels))
  for i in range(len(cases.SIZES)):
    for name, found in (("logits", raw.logits), ("deltas", raw.deltas), ("iou", raw.iou[..., None])):
      expected = GOLDEN[f"alone/{i}/{name}"]
      np.testing.assert_allclose(np.asarray(found)[i][seen[i]], expected, atol=1e-4, err_msg=name)


def test_detections_are_mmdetection_s(evaluated):
  _, outputs = evaluated
  for i in range(len(cases.SIZES)):
    expected = {name: GOLDEN[f"alone/{i}/{name}"] for name in ("boxes", "scores", "labels")}
    n = len(expected["scores"])
    assert 20 < n <= 100
    np.testing.assert_array_equal(outputs["labels"][i][:n], expected["labels"])
    np.testing.assert_allclose(outputs["scores"][i][:n], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(outputs["boxes"][i][:n], expected["boxes"], atol=1e-2)


def test_nothing_found_is_no_label_and_no_score():
  raw, sizes = said(), jnp.asarray(cases.WIDE_SIZES)
  seen = visible(cases.WIDE_SIZES, cases.WIDE, cases.LEVELS)
  outputs = compiled(lambda logits: ddod_boxes.detections(raw._replace(logits=logits), seen, sizes))(raw.logits - 99)
  assert outputs["boxes"].shape == (2, 100, 4)
  assert not outputs["scores"].any()
  assert (outputs["labels"] == -1).all()


def test_the_best_of_a_level_are_those_of_a_whole_sort():
  p = jnp.asarray(seeded.normal("p", (1300, 9)))
  best, rows, columns = ddod_boxes._best(p)
  np.testing.assert_array_equal(best, -np.sort(-np.asarray(p), axis=None)[: ddod_boxes.N_LEVEL])
  np.testing.assert_array_equal(p[rows, columns], best)


def test_the_row_computes_in_bfloat16_and_answers_in_float32():
  model = models.load_model("ddod_r50_fpn.mmdet_coco").bound(dtype="bfloat16", batch_norm="frozen", dropout=0.0)
  variables, given = models.template(model), targets(cases.WIDE_OBJECTS)
  batch = {"image": jnp.zeros((2, *cases.WIDE, 3), jnp.uint8), **given}
  outputs = jax.eval_shape(lambda variables: model.apply(variables, batch)[0], variables)
  shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in outputs.items()}
  assert shapes == {"boxes": ((2, 100, 4), "float32"), "scores": ((2, 100), "float32"), "labels": ((2, 100), "int32")}
  outputs, updated = jax.eval_shape(lambda variables: model.apply(variables, batch, train=True), variables)
  assert {leaf.dtype for leaf in jax.tree.leaves((outputs, updated))} == {jnp.dtype("float32")}
  assert jax.tree.structure(updated) == jax.tree.structure({k: v for k, v in variables.items() if k != "params"})


def test_anchors_stand_about_multiples_of_the_stride():
  anchors = ddod_boxes.anchors(((2, 2), (1, 1), (1, 1), (1, 1), (1, 1)))
  np.testing.assert_array_equal(anchors[:3], [[-32, -32, 32, 32], [-24, -32, 40, 32], [-32, -24, 32, 40]])
  np.testing.assert_array_equal(anchors[-1], [-512, -512, 512, 512])


# --------------------------------------------------------------------------------------------------- training


def learn(arrays, seen, given):
  """(losses, positives, assignments) of a head's answers on the wide canvas."""
  raw, anchors = ddod_boxes.Raw(*arrays, cases.LEVELS), ddod_boxes.anchors(cases.LEVELS)
  wanted = (given["box_kinds"] == 0) & (given["box_labels"] >= 0)
  found = ddod_loss.assigned(raw, jnp.asarray(anchors), seen, given["boxes"], given["box_labels"], wanted)
  return *ddod_loss.losses(raw, anchors, seen, given, jnp.zeros(5)), found


LEARN = compiled(learn)


def learned(objects, **more):
  """The same of the cases' answers, with means for losses."""
  seen = visible(cases.WIDE_SIZES, cases.WIDE, cases.LEVELS)
  losses, positives, found = LEARN(said()[:3], seen, targets(objects) | more)
  found = {"class": np.asarray(found[0]), "box": np.asarray(found[1])}
  return {name: total / weight for name, (total, weight) in losses.items()}, np.asarray(positives), found


def test_assignments_and_losses_are_mmdetection_s():
  given, seen = targets(cases.WIDE_OBJECTS), visible(cases.WIDE_SIZES, cases.WIDE, cases.LEVELS)
  losses, positives, found = learned(cases.WIDE_OBJECTS)
  for name, box in found.items():
    label = np.take_along_axis(np.asarray(given["box_labels"]), np.maximum(box, 0), 1)
    label = np.where(box >= 0, label, np.where(seen, -1, -2))
    np.testing.assert_array_equal(label, GOLDEN[f"assigned/{name}/labels"])
    assert (box >= 0).sum() == GOLDEN[f"assigned/{name}/n"]
    box = jnp.take_along_axis(given["boxes"], jnp.maximum(box, 0)[..., None], 1)
    deltas = boxes.encode(box, jnp.asarray(ddod_boxes.anchors(cases.LEVELS)), ddod_boxes.WEIGHTS)
    np.testing.assert_allclose(deltas[label >= 0], GOLDEN[f"assigned/{name}/deltas"], atol=1e-4)
  assert positives.sum() == GOLDEN["assigned/class/n"] + GOLDEN["assigned/box/n"]
  for name, theirs in THEIRS.items():
    np.testing.assert_allclose(losses[name], GOLDEN[f"assigned/{theirs}"], rtol=1e-5)


def test_rows_that_are_masked_and_pictures_without_objects_teach_what_they_should():
  _, _, whole = learned(cases.WIDE_OBJECTS)
  alone, n_alone, _ = learned(cases.WIDE_OBJECTS, mask=jnp.array([True, False]))
  assert n_alone.sum() == sum((box[0] >= 0).sum() for box in whole.values())
  nothing = (np.zeros((0, 4), np.float32), [])
  empty, n_empty, found = learned((nothing, nothing))
  assert not n_empty.any()
  assert all((box == -1).all() for box in found.values())
  assert empty["box"] == empty["iou"] == 0
  assert np.isfinite(empty["class"])
  assert empty["class"] > alone["class"]  # a sum where it is a mean over anchors that learn


def test_two_training_steps_are_mmdetection_s():
  """Losses of two steps, the second with the levels weighed by both, and every gradient of the first."""
  image, sizes, given = cases.image(), jnp.asarray(cases.SIZES), targets(cases.OBJECTS)
  start = variables()
  rest = {name: value for name, value in start.items() if name != "params"}

  def loss(params, rest):
    outputs, updated = NET.apply({"params": params, **rest}, image, sizes, given, train=True, mutable=list(rest))
    means = {name: total / weight for name, (total, weight) in outputs["losses"].items()}
    return sum(means.values()), (means, updated)

  step = compiled(jax.grad(loss, has_aux=True))
  gradients, (means, updated) = step(start["params"], rest)
  _, (again, after) = step(start["params"], updated)
  for i, found in enumerate((means, again)):
    for name, theirs in THEIRS.items():
      np.testing.assert_allclose(found[name], GOLDEN[f"trained/{i}/{theirs}"], rtol=1e-4, err_msg=f"{i} {name}")
  np.testing.assert_allclose(after["counters"]["positives"], 2 * updated["counters"]["positives"])
  jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], start["batch_stats"])
  found = convert.to_foreign({"params": gradients, **rest}, ddod.RULES)
  for key in [key for key in GOLDEN if key.startswith("trained/gradient/")]:
    foreign, expected = key.removeprefix("trained/gradient/"), GOLDEN[key]
    numbers = seeded.told(foreign, found[foreign].astype(np.float64))
    np.testing.assert_allclose(numbers, expected, atol=1e-3 * expected[0] + 1e-5, err_msg=key)


def test_two_devices_count_and_divide_as_one():
  """Over a mapped axis the levels weigh alike everywhere, and sums and weights add up to those of one device."""
  given = said()[:3], visible(cases.WIDE_SIZES, cases.WIDE, cases.LEVELS), targets(cases.WIDE_OBJECTS)

  def mapped(*args):
    losses, positives, _ = learn(*args)
    return jax.lax.psum(losses, "batch"), positives

  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
  two = compiled(jax.shard_map(mapped, mesh=mesh, in_specs=P("batch"), out_specs=P(), check_vma=False))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), two(*given), LEARN(*given)[:2])
