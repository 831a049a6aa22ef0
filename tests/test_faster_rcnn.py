"""Faster R-CNN against torchvision, stage by stage, on reduced networks with seeded weights.

The numbers are torchvision's own, RoIAlign in its Python version; only suppression within a class was written out from
its definition where torchvision had no compiled part (golden/make_faster_rcnn.py).
"""

from __future__ import annotations

import functools
import json
import re
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import faster_rcnn_cases as cases
from golden import seeded

from robust_compress import convert, models
from robust_compress.models import boxes as boxes_
from robust_compress.models import (
  detectors,
  faster_rcnn,
  iou_matching,
  layers,
  mobilenet_v3,
  resnet,
  roi_align,
  roi_heads,
  rpn,
)
from robust_compress.types import WeightsError

GOLDEN = Path(__file__).parent / "golden"
NUMBERS = dict(np.load(GOLDEN / "faster_rcnn.npz"))
ROWS = {row.name: row for row in detectors.DETECTORS if row.builder.startswith("faster_rcnn:")}

# Compiled once and run once: half the compiler's work is enough.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision("highest"):
    yield


def golden(name):
  return {key.removeprefix(f"{name}/"): value for key, value in NUMBERS.items() if key.startswith(f"{name}/")}


def trunk_of(name):
  if name == "mobile":
    return partial(mobilenet_v3.Trunk, cases.MOBILE_MULTIPLIER)
  return partial(resnet.Trunk, (1, 1, 1, 1), name == "v2", epsilon=cases.CASES[name].epsilon)


def network(name, **options):
  case = cases.CASES[name]
  sizes = {"anchor_sizes": cases.MOBILE_ANCHORS} if name == "mobile" else {}
  first = rpn.Rpn(**sizes, n_before=cases.N_BEFORE, n_after=cases.N_AFTER, least=case.least, n_sampled=cases.ALL)
  second = roi_heads.Roi(n_detections=cases.N_DETECTIONS, n_sampled=cases.ALL)
  common = {"width": cases.WIDTH, "n_classes": cases.N_CLASSES, "first": first, "second": second}
  return faster_rcnn.FasterRcnn(trunk_of(name), **{**common, **case.options, **options})


def initialised(module):
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
  return module.init(rngs, jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64, jnp.int32), None, train=False)


@functools.cache
def weights(name):
  template = jax.eval_shape(partial(initialised, network(name)))
  rules = getattr(faster_rcnn, cases.CASES[name].rules)
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
  shapes = {key: array.shape for key, array in convert.to_foreign(zeros, rules).items()}
  return convert.to_variables(seeded.state_dict(shapes), rules, template, name)


def image():
  return cases.padded(seeded.picture(cases.CANVAS, 2))


def targets():
  k = max(len(labels) for _, labels in cases.OBJECTS) + 2
  boxes, labels, kinds = np.zeros((2, k, 4), np.float32), np.full((2, k), -1, np.int32), np.zeros((2, k), np.uint8)
  for i, (found, of) in enumerate(cases.OBJECTS):
    boxes[i, : len(of)], labels[i, : len(of)] = found, of
    boxes[i, len(of)], labels[i, len(of)], kinds[i, len(of)] = (
      (1, 1, 60, 60),
      2,
      1,
    )  # a crowd, of which nothing is learned
  found = {"boxes": boxes, "box_labels": labels, "box_kinds": kinds, "mask": np.ones(2, bool)}
  return {key: jnp.asarray(value) for key, value in found.items()}


def assert_near(actual, expected, tolerance=1e-4):
  scale = max(1.0, float(np.abs(expected).max()))
  np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, rtol=0, atol=tolerance)


# --------------------------------------------------------------------------------- numbers of the reference


def stages(module, image, sizes):
  """What every stage says; run with `nn.Module.apply`."""
  maps = module.fpn(module.body(image, False), False)
  raw = module.raw(maps, sizes)
  proposals = rpn.propose(raw, sizes, module.first, False)
  heads = module._heads(maps, proposals.boxes, sizes, False)
  return raw, proposals, heads, roi_heads.detect(*heads, proposals, sizes, module.second)


@pytest.mark.parametrize("name", cases.CASES)
def test_every_stage_says_what_the_reference_does(name):
  apply = compiled(partial(network(name).apply, method=stages))
  raw, proposals, heads, detections = apply(weights(name), image(), cases.SIZES)
  expected = golden(name)
  assert_near(jnp.concatenate(raw.logits, 1), expected["rpn/logits"])
  assert_near(jnp.concatenate(raw.deltas, 1)[:, ::7], expected["rpn/deltas"])
  present = np.asarray(proposals.present)
  assert_near(heads[0][present], expected["box/logits"])
  assert_near(heads[1].reshape(*present.shape, -1)[present], expected["box/deltas"])
  for i in range(2):
    assert present[i].sum() == len(expected[f"proposals/{i}"])
    assert_near(proposals.boxes[i][present[i]], expected[f"proposals/{i}"])
    n = len(expected[f"detections/{i}/labels"])
    labels = np.asarray(detections["labels"][i])
    assert labels[:n].tolist() == expected[f"detections/{i}/labels"].tolist()
    assert np.all(labels[n:] == -1)
    assert_near(detections["boxes"][i][:n], expected[f"detections/{i}/boxes"])
    assert_near(detections["scores"][i][:n], expected[f"detections/{i}/scores"], 1e-5)


@pytest.mark.parametrize("name", cases.CASES)
def test_losses_and_gradients_are_the_reference_s(name):
  """All anchors and proposals are sampled, so that chance has no part. One trunk has its gradients looked at, too."""
  module, variables, expected = network(name, batch_norm="frozen"), weights(name), golden(name)
  fixed = {} if name == "v1" else {"body": variables["params"]["body"]}

  def total(params):
    variables_ = {**variables, "params": params | fixed}
    options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(0)}}
    outputs, _ = module.apply(variables_, image(), cases.SIZES, targets(), **options)
    losses = {key: value / weight for key, (value, weight) in outputs["losses"].items()}
    return sum(losses.values()), losses

  gradients, losses = compiled(jax.grad(total, has_aux=True))(
    {key: value for key, value in variables["params"].items() if key not in fixed}
  )
  assert set(losses) == {"objectness", "rpn_box_reg", "classifier", "box_reg"}
  for key, value in losses.items():
    np.testing.assert_allclose(value, expected[f"losses/{key}"], rtol=1e-4)
  found = convert.to_foreign({"params": gradients}, getattr(faster_rcnn, cases.CASES[name].rules))
  compared = {key.removeprefix("gradient/") for key in expected if key.startswith("gradient/")}
  assert all(key in found or (fixed and key.startswith("backbone.body.")) for key in compared)
  for key in compared & set(found):
    numbers = expected[f"gradient/{key}"]
    np.testing.assert_allclose(seeded.told(key, found[key].astype(np.float64)), numbers, atol=1e-3 * numbers[0] + 1e-5)


def test_matching_anchors_and_regions_are_the_reference_s():
  parts = golden("parts")
  objects, boxes = (
    jnp.asarray(cases.boxes_of(seeded.normal(name, (n, 4)))) for name, n in (("objects", 6), ("boxes", 200))
  )
  padded, present = jnp.pad(objects, ((2, 1), (0, 0))), jnp.arange(9) // 2 % 4 != 0
  padded, present = padded.at[0].set(boxes[0]), jnp.asarray([False, False, *[True] * 6, False])
  for name, high, low, forced in (("rpn", 0.7, 0.3, True), ("roi", 0.5, 0.5, False)):
    which, kind = compiled(partial(iou_matching.match, high=high, low=low, low_quality=forced))(padded, present, boxes)
    found = np.where(np.asarray(kind) == 1, np.asarray(which) - 2, np.where(np.asarray(kind) == -1, -1, -2))
    np.testing.assert_array_equal(found, parts[f"match/{name}"])
  assert_near(boxes_.encode(objects, boxes[:6], roi_heads.WEIGHTS), parts["encoded"])
  maps = [seeded.normal(f"map {i}", (1, 2, 96 >> i, 128 >> i)).transpose(0, 2, 3, 1) for i in range(2, 6)]
  strides = (4, 8, 16, 32)
  align = compiled(partial(roi_align.roi_align, strides=strides, extents=rpn.extents(jnp.array([[96, 128]]), strides)))
  pooled = align(maps, boxes[None, :40])
  assert_near(pooled[0], parts["pooled"], 1e-5)


def test_anchors_on_a_canvas_are_those_of_the_picture_alone():
  strides, sizes = (4, 8, 16, 32, 64), jnp.array([[150, 90]], jnp.int32)
  maps = [jnp.zeros((1, 192 // stride, 192 // stride, 1)) for stride in strides]
  found, inside = compiled(partial(rpn.anchors, of=rpn.Rpn().anchor_sizes))(maps, sizes, rpn.extents(sizes, strides))
  alone = jnp.concatenate([x[0][keep[0]] for x, keep in zip(found, inside, strict=True)])
  np.testing.assert_array_equal(alone[-len(golden("parts")["anchors"]) :], golden("parts")["anchors"])


# ---------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_reference_s_arrays_and_trains_the_same(name):
  model = ROWS[name]()
  template = models.template(model)
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(template["params"])) == model.n_params
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
  [(fixed, rate)] = model.own_rates
  trained = {
    path: leaf for path, leaf in convert.flatten(zeros).items() if path[:3] == "par" and not re.search(fixed, path)
  }
  variant = {"RULES": "v1", "V2_RULES": "v2", "MOBILENET_RULES": "mobile"}[ROWS[name].rules]
  expected = json.loads((GOLDEN / "faster_rcnn.json").read_text())[variant]
  assert rate == 0
  for key, tree in (("all", zeros), ("trained", convert.unflatten(trained))):
    shapes = {key: array.shape for key, array in convert.to_foreign(tree, model.rules).items()}
    assert [len(shapes), seeded.digest(shapes)] == expected[key]


def test_older_files_are_read_and_others_refused():
  variables = weights("v1")
  arrays = convert.to_foreign(variables, faster_rcnn.RULES)
  assert not any("num_batches" in key for key in arrays)
  older = {key.replace("_blocks.0.0.", "_blocks.0.").replace("conv.0.0.", "conv."): x for key, x in arrays.items()}
  older["backbone.body.bn1.num_batches_tracked"] = np.zeros((), np.int64)
  assert len(set(older) - set(arrays)) == 7
  read = convert.to_variables(older, faster_rcnn.READING, variables)
  jax.tree.map(np.testing.assert_array_equal, read, variables)
  with pytest.raises(WeightsError, match="left over"):
    convert.to_variables(older, faster_rcnn.RULES, variables)


# ------------------------------------------------------------------------------------------------ training


def test_a_balanced_sample_is_random_and_within_its_bounds():
  kinds = jnp.asarray(np.repeat([[1] * 30 + [-1] * 50 + [0] * 20, [1] * 2 + [-1] * 3 + [0] * 95], 1, 1), jnp.int32)
  seen = []
  for seed in range(2):
    sample = iou_matching.balanced(jax.random.key(seed), kinds, 20, 0.25)
    chosen = jnp.take_along_axis(kinds, sample.index, 1)
    np.testing.assert_array_equal(sample.taken.sum(1), [20, 5])
    np.testing.assert_array_equal(sample.positive.sum(1), [5, 2])
    np.testing.assert_array_equal(chosen[sample.taken], np.where(sample.positive, 1, -1)[sample.taken])
    seen.append(sorted(np.asarray(sample.index[0]).tolist()))
    assert len(set(seen[-1])) == 20
  assert seen[0] != seen[1]


def losses_of(module, variables, found, seed=0):
  options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(seed)}}
  return module.apply(variables, image(), cases.SIZES, found, **options)


def test_padded_rows_and_crowds_teach_nothing():
  step = compiled(partial(losses_of, network("v1", batch_norm="frozen")))
  full = targets()
  both, _ = step(weights("v1"), full)
  first = full | {"mask": jnp.array([True, False])}
  one, _ = step(weights("v1"), first)
  other, _ = step(weights("v1"), first | {"boxes": full["boxes"].at[1].add(7.0)})
  jax.tree.map(np.testing.assert_array_equal, one, other)
  for name, (_, weight) in one["losses"].items():
    assert 0.4 < weight / both["losses"][name][1] < 0.6
  none, _ = step(weights("v1"), full | {"box_kinds": jnp.full_like(full["box_kinds"], 2)})
  assert none["losses"]["rpn_box_reg"][0] == none["losses"]["box_reg"][0] == 0
  assert all(weight > 0 and np.isfinite(value) for value, weight in none["losses"].values())


def test_every_norm_knows_whether_it_is_trained():
  seen = []

  def watch(run, arguments, options, context):
    if isinstance(context.module, layers.BatchNorm) and context.method_name == "__call__":
      seen.append(arguments[1])
    return run(*arguments, **options)

  module, variables = network("v2"), weights("v2")
  with nn.intercept_methods(watch):
    jax.eval_shape(partial(losses_of, module), variables, targets())
    assert seen == [True] * (len(jax.tree.leaves(variables["batch_stats"])) // 2)
    seen.clear()
    jax.eval_shape(partial(module.apply, train=False), variables, image(), cases.SIZES, None)
    assert set(seen) == {False}


def test_both_types_trace_with_losses_in_single_precision():
  for dtype in ("float32", "bfloat16"):
    module = network("mobile", dtype=dtype, batch_norm="frozen")
    outputs, _ = jax.eval_shape(partial(losses_of, module), weights("mobile"), targets())
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float32)}
    found = jax.eval_shape(partial(module.apply, train=False), weights("mobile"), image(), cases.SIZES, None)
    assert {key: (x.shape, str(x.dtype)) for key, x in found.items()} == {
      "boxes": ((2, cases.N_DETECTIONS, 4), "float32"),
      "scores": ((2, cases.N_DETECTIONS), "float32"),
      "labels": ((2, cases.N_DETECTIONS), "int32"),
    }
