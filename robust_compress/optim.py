"""Optimisers and schedules by the numbers of a Recipe.

gradient ──clip──▶ + decay · weight ──momentum──▶ · rate(step) ──▶ update      'sgd', as in PyTorch
gradient ──clip──▶ Adam ──▶ + decay · weight ─────▶ · rate(step) ──▶ update      'adamw'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_compress import specs
from robust_compress.types import Recipe, TrainError

SCHEDULES = ("cosine", "poly", "step", "constant")
OPTIMIZERS = ("sgd", "adamw")


class Group(NamedTuple):
  """Parameters that are trained by an optimiser of their own, such as the quantiles of an entropy model."""

  pattern: str  # searched for in 'params/…' paths
  optimizer: optax.GradientTransformation


def n_steps(recipe: Recipe, n_examples: int) -> int:
  """Length of training in steps; a last batch that is not full is left out.

  Raises TrainError when neither or both of `epochs` and `steps` are set, or no step results.
  """
  if (recipe.epochs is None) == (recipe.steps is None):
    raise TrainError(f"a recipe has either epochs or steps; this has epochs={recipe.epochs} and steps={recipe.steps}")
  if recipe.steps is not None:
    total = recipe.steps
  else:
    total = int(recipe.epochs * n_examples / recipe.batch_size + 1e-9)  # 0.3 · 10 is 3, not 2.9999
  if total < 1:
    raise TrainError(
      f"{recipe.epochs if recipe.steps is None else recipe.steps} {'epochs' if recipe.steps is None else 'steps'} of "
      f"{n_examples} examples in batches of {recipe.batch_size} make no step; train longer or lower batch_size"
    )
  return total


def schedule(recipe: Recipe, n_steps: int) -> optax.Schedule:
  """Learning rate at a step, float32[]: linear warm-up to the peak, then one of SCHEDULES."""
  if recipe.schedule not in SCHEDULES:
    raise specs.nearest("schedule", recipe.schedule, SCHEDULES)
  n_warmup = round(recipe.warmup * n_steps)

  def shape(step: jax.Array) -> jax.Array:
    if recipe.schedule in ("cosine", "poly"):
      progress = jnp.clip((step - n_warmup) / max(n_steps - n_warmup, 1), 0.0, 1.0)
      cosine = 0.5 * (1 + jnp.cos(np.float32(np.pi) * progress))
      left = cosine if recipe.schedule == "cosine" else (1 - progress) ** jnp.float32(recipe.power)
      return recipe.final_factor + (1 - recipe.final_factor) * left
    if recipe.schedule == "step":
      passed = sum((step >= round(at * n_steps)).astype(jnp.float32) for at in recipe.milestones)
      return jnp.float32(recipe.decay) ** passed
    return jnp.ones_like(step)

  def rate(count: Any) -> jax.Array:
    step = jnp.asarray(count, jnp.float32)
    warm = jnp.minimum((step + 1) / max(n_warmup, 1), 1.0)
    return recipe.learning_rate * jnp.where(step < n_warmup, warm, shape(step))

  return rate


def optimizer(recipe: Recipe, n_steps: int, groups: Sequence[Group] = ()) -> optax.GradientTransformation:
  """The recipe's optimiser; parameters that a group's pattern finds are left to that group's.

  SGD adds weight decay to the gradient and keeps a momentum buffer as PyTorch does; AdamW decays decoupled, with betas
  (0.9, 0.999) and epsilon 1e-8. One-dimensional parameters (biases, norms) do not decay unless `decay_bias_and_norm`.
  """
  if recipe.optimizer not in OPTIMIZERS:
    raise specs.nearest("optimizer", recipe.optimizer, OPTIMIZERS)
  decay = optax.add_decayed_weights(recipe.weight_decay, mask=_decays(recipe.decay_bias_and_norm))
  direction = {
    "sgd": lambda: optax.chain(decay, optax.trace(recipe.momentum, nesterov=recipe.nesterov)),
    "adamw": lambda: optax.chain(optax.scale_by_adam(), decay),
  }[recipe.optimizer]()
  rule = optax.chain(direction, optax.scale_by_learning_rate(schedule(recipe, n_steps)))
  if recipe.clip_norm is not None:  # of what it trains itself: a group's gradients have a scale of their own
    rule = optax.chain(optax.clip_by_global_norm(recipe.clip_norm), rule)
  if groups:
    by_name = {"main": rule, **{group.pattern: group.optimizer for group in groups}}
    rule = optax.multi_transform(by_name, lambda params: _group_names(params, groups))

  def update(*args: Any, **kwargs: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises floats to integer powers
      return rule.update(*args, **kwargs)

  return optax.GradientTransformation(rule.init, update)


def _decays(everything: bool) -> Callable[[Any], Any]:
  return lambda params: jax.tree.map(lambda x: everything or x.ndim > 1, params)


def _group_names(params: Any, groups: Sequence[Group]) -> Any:
  """The tree of params with the pattern of the group that each belongs to, or 'main'."""

  def name(path: Any, _: Any) -> str:
    text = "params/" + jax.tree_util.keystr(path, simple=True, separator="/")
    return next((group.pattern for group in groups if re.search(group.pattern, text)), "main")

  names = jax.tree_util.tree_map_with_path(name, params)
  for group in groups:
    if group.pattern not in jax.tree.leaves(names):
      raise TrainError(f"no parameter's path holds {group.pattern!r}; its optimiser would train nothing")
  return names
