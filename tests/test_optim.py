import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_compress import optim
from robust_compress.types import Recipe, SpecError, TrainError

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/optim.json").read_text())


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd nesterov", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("sgd plain", {"momentum": 0.0}),
    ("adamw", {"optimizer": "adamw", "weight_decay": 0.1}),
  ],
)
def test_updates_are_those_of_pytorch(name, options, clip_norm):
  recipe = Recipe(steps=6, learning_rate=0.1, schedule="constant", clip_norm=clip_norm, **options)
  params = {name: jnp.array(GOLDEN[name], jnp.float32) for name in ("kernel", "bias")}
  rule = optim.optimizer(recipe, 6)
  state = rule.init(params)
  for kernel, bias in GOLDEN["gradients"]:
    gradient = {"kernel": jnp.array(kernel, jnp.float32), "bias": jnp.array(bias, jnp.float32)}
    updates, state = rule.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  kernel, bias = GOLDEN[f"{name}, clip_norm={clip_norm}"]
  np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(params["bias"], bias, rtol=1e-5, atol=1e-5)


def rates(n_steps=100, **options):
  rate = optim.schedule(Recipe(steps=n_steps, learning_rate=2.0, **options), n_steps)
  return np.array([rate(jnp.int32(step)) for step in range(n_steps)])


def test_cosine_warms_up_to_the_peak_and_ends_at_its_factor():
  values = rates(warmup=0.1, final_factor=0.01)
  np.testing.assert_allclose(values[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
  assert values.argmax() in (9, 10)
  assert (np.diff(values[10:]) < 0).all()
  np.testing.assert_allclose(values[55], 2.0 * (0.01 + 0.99 / 2), rtol=1e-5)
  np.testing.assert_allclose(values[-1], 0.02, atol=2e-3)


def test_steps_come_at_fractions_of_the_whole():
  values = rates(n_steps=30, schedule="step", milestones=(1 / 3, 2 / 3), decay=0.1)
  np.testing.assert_allclose(values, np.repeat([2.0, 0.2, 0.02], 10), rtol=1e-6)
  np.testing.assert_allclose(rates(n_steps=4, schedule="constant"), 2.0)


@pytest.mark.parametrize("power", [1.0, 0.9])
def test_polynomial_falls_as_mmengine_s(power):
  """There each step is the last one's rate times a factor, and the last of n is at 0; here one after it would be."""
  n_warmup, n = 10, 100
  values = rates(schedule="poly", power=power, warmup=n_warmup / n)
  chained = [2.0]
  for step in range(1, n - n_warmup):
    chained.append(chained[-1] * (1 - 1 / (n - n_warmup - 1 - step + 1)) ** power)
  np.testing.assert_allclose(values[n_warmup:], chained, atol=2.01 / (n - n_warmup) ** power)
  np.testing.assert_allclose(values[:n_warmup], 2.0 * np.arange(1, n_warmup + 1) / n_warmup, rtol=1e-6)
  floored = rates(schedule="poly", power=power, final_factor=0.5)
  np.testing.assert_allclose(floored[50], 2.0 * (0.5 + 0.5 * 0.5**power), rtol=1e-5)


def test_a_recipe_scales_by_its_length_alone():
  np.testing.assert_allclose(rates(n_steps=200, warmup=0.2)[40::2], rates(warmup=0.2)[20:], rtol=1e-5)


@pytest.mark.parametrize("everything", [False, True])
def test_one_dimensional_parameters_decay_only_when_asked(everything):
  recipe = Recipe(steps=1, weight_decay=0.5, momentum=0.0, schedule="constant", decay_bias_and_norm=everything)
  params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
  rule = optim.optimizer(recipe, 1)
  updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
  assert (np.array(updates["kernel"]) != 0).all()
  assert (np.array(updates["scale"]) != 0).all() == everything


def test_a_group_has_an_optimizer_of_its_own():
  params = {"entropy": {"quantiles": jnp.ones(3)}, "conv": {"kernel": jnp.ones((2, 2))}}
  rule = optim.optimizer(Recipe(steps=5, momentum=0.0), 5, [optim.Group("entropy/quantiles", optax.sgd(7.0))])
  updates, _ = rule.update(jax.tree.map(jnp.ones_like, params), rule.init(params), params)
  np.testing.assert_allclose(updates["entropy"]["quantiles"], -7.0)
  np.testing.assert_allclose(updates["conv"]["kernel"], -0.01)
  with pytest.raises(TrainError, match="'quantile_s'"):
    optim.optimizer(Recipe(steps=5), 5, [optim.Group("quantile_s", optax.sgd(1.0))]).init(params)


def test_length_in_steps():
  assert optim.n_steps(Recipe(epochs=3, batch_size=32), 100) == 9
  assert optim.n_steps(Recipe(epochs=0.3, batch_size=1), 10) == 3
  assert optim.n_steps(Recipe(steps=7), 0) == 7
  with pytest.raises(TrainError, match="lower batch_size"):
    optim.n_steps(Recipe(epochs=1, batch_size=32), 10)
  for wrong in (Recipe(), Recipe(epochs=1, steps=1)):
    with pytest.raises(TrainError, match="either epochs or steps"):
      optim.n_steps(wrong, 10)


def test_unknown_names_are_told_with_the_nearest():
  with pytest.raises(SpecError, match="did you mean 'cosine'"):
    optim.schedule(Recipe(schedule="cosin"), 10)
  with pytest.raises(SpecError, match="did you mean 'adamw'"):
    optim.optimizer(Recipe(optimizer="adam"), 10)
