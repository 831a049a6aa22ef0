"""The small detector: what its locations learn, what it tells, and what does not matter to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_compress import convert, models
from robust_compress.models import nano_detector

compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MODEL = models.load_model("nano_det.random").bound(batch_norm="frozen")


@pytest.fixture(scope="module")
def variables():
  return models.load_weights(MODEL)


def batch_of(n=2, side=64, **changes):
  boxes = np.zeros((n, 3, 4), np.float32)
  boxes[:, 0] = (8, 16, 40, 56)
  return {
    "image": np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8),
    "boxes": boxes,
    "box_labels": np.tile(np.int32([4, -1, -1]), (n, 1)),
    "box_kinds": np.zeros((n, 3), np.uint8),
    "mask": np.ones(n, bool),
  } | changes


def terms(variables, batch):
  outputs, _ = MODEL.apply(variables, batch, train=True, rngs={"dropout": jax.random.key(0)})
  return MODEL.own_loss(outputs, batch)


losses_of = compiled(terms)


def test_a_location_learns_the_smallest_box_whose_middle_is_near():
  centres = nano_detector.locations(64, 64)
  boxes = jnp.float32([[0, 0, 64, 64], [20, 20, 44, 44], [59, 3, 61, 5], [0, 0, 64, 64]])
  at, learns = nano_detector.assign(boxes, jnp.array([True, True, True, False]), centres)
  learnt = np.where(learns, at, -1).reshape(8, 8)
  expected = np.full((8, 8), -1)
  expected[3:5, 3:5] = 1  # within 1.5 strides of the middle, which the outer box has too
  expected[0, 7] = 2  # two pixels a side, and no location within
  np.testing.assert_array_equal(learnt, expected)


def test_decoding_undoes_a_box():
  centres = nano_detector.locations(32, 32)
  raw = jnp.zeros((len(centres), 4)).at[5].set(jnp.float32([0.5, -1, np.log(2), np.log(0.25)]))
  np.testing.assert_allclose(
    nano_detector.decode(raw, centres)[5], [12 + 4 - 32, 12 - 8 - 4, 12 + 4 + 32, 8], atol=1e-4
  )


def test_rows_and_boxes_that_are_not_learned_from_change_nothing(variables):
  batch = batch_of()
  expected = losses_of(variables, batch)
  boxes = batch["boxes"].copy()
  boxes[:, 2] = (0, 0, 60, 60)  # its label is -1
  same = losses_of(variables, batch | {"boxes": boxes})
  twice = {key: np.concatenate([value, value[::-1]]) for key, value in batch.items()}
  twice["boxes"][2:] = 7
  half = losses_of(variables, twice | {"mask": np.array([True, True, False, False])})
  for name, (total, weight) in expected.items():
    for found in (same, half):
      np.testing.assert_allclose(found[name][0], total, rtol=1e-5)
      assert found[name][1] == weight
  nothing = losses_of(variables, batch | {"mask": np.zeros(2, bool)})
  assert all(total == 0 for total, _ in nothing.values())


def test_a_crowd_is_no_background(variables):
  """What lies within it, and learns no box, leaves the mean of the classes."""
  batch = batch_of()
  crowd = {"box_labels": np.full((2, 3), 4, np.int32), "box_kinds": np.tile(np.uint8([0, 1, 1]), (2, 1))}
  boxes = batch["boxes"].copy()
  boxes[:, 1] = (0, 0, 64, 64)
  expected, found = losses_of(variables, batch), losses_of(variables, batch | crowd | {"boxes": boxes})
  assert 0 < found["class"][0] < expected["class"][0]
  np.testing.assert_allclose(found["box"], expected["box"], rtol=1e-6)


def test_detections_lie_in_the_picture_best_first(variables):
  sharper = jax.tree.map(np.array, variables)
  sharper["params"]["classes"]["bias"][:] = 0
  sharper["params"]["classes"]["kernel"] *= 20
  place = np.array([[0, 0, 1, 1, 64, 64], [0, 0, 1, 1, 33, 48]], np.float32)
  found, _ = compiled(MODEL.apply)(sharper, {"image": batch_of()["image"], "place": place})
  for i, (height, width) in enumerate(place[:, 4:]):
    boxes, scores, labels = (np.asarray(found[name][i]) for name in ("boxes", "scores", "labels"))
    told = labels >= 0
    assert told.sum() > 0
    assert (np.diff(scores) <= 0).all()
    assert (scores[told] >= nano_detector.LEAST).all()
    assert (scores[~told] == 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all()
  assert found["boxes"].shape == (2, 100, 4)


def test_it_learns_what_it_is_shown(variables):
  batch, optimizer = batch_of(), optax.adam(3e-3)

  @compiled
  def step(params, state):
    def loss(params):
      return sum(total / weight for total, weight in terms({**variables, "params": params}, batch).values())

    value, gradient = jax.value_and_grad(loss)(params)
    with jax.numpy_dtype_promotion("standard"):
      updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, value

  params, state = variables["params"], optimizer.init(variables["params"])
  values = []
  for _ in range(30):
    params, state, value = step(params, state)
    values.append(float(value))
  assert values[-1] < 0.6 * values[0]
  found, _ = compiled(MODEL.apply)({**variables, "params": params}, batch)
  assert (np.asarray(found["labels"])[:, 0] == 4).all()
  np.testing.assert_allclose(np.asarray(found["boxes"])[:, 0], batch["boxes"][:, 0], atol=8)


def test_its_rules_name_every_variable(variables):
  foreign = convert.to_foreign(variables, MODEL.rules)
  back = convert.to_variables(foreign, MODEL.rules, variables)
  jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_a_classifier_s_encoder_starts_it(variables):
  nano = models.load_model("nano.random")
  arrays = convert.to_foreign(models.load_weights(nano), nano.rules)
  shared = convert.matching(arrays, MODEL.rules, convert.flatten(variables))
  assert len(shared) == len(arrays) - 2 - sum(key.endswith("num_batches_tracked") for key in arrays)  # all but the head


def test_it_traces_in_bfloat16():
  model = MODEL.bound(dtype="bfloat16", dropout=0.1)

  def apply(variables, batch):
    return model.apply(variables, batch, train=True, rngs={"dropout": jax.random.key(0)})[0]["losses"]

  template = models.template(model)
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(template["params"])) == model.n_params
  losses = jax.eval_shape(apply, template, batch_of())
  assert {leaf.dtype for pair in losses.values() for leaf in pair} == {jnp.dtype("float32")}
