"""The only training loop.

    batches(step) ─▶ rows of a device ─▶ augment ─▶ model ─▶ {name: (sum, weight)} ─▶ gradient ─psum─▶ optimiser
                      └──────── microbatch by microbatch ────────┘

A loss is Σ sum / Σ weight over all devices and microbatches, term by term, so one device with the whole batch equals
two with half of it each, and four microbatches equal one (batch norm and dropout apart, which see what they are given).
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import parameter_overview
from etils import epath
from jax.sharding import Mesh
from tqdm import tqdm

from robust_compress import optim, parallel, specs
from robust_compress.files import write_atomic
from robust_compress.metric_writers import JsonlWriter, Writer
from robust_compress.parallel import AXIS, REPLICATED, ROWS
from robust_compress.state import Checkpoints, TrainState
from robust_compress.types import Batch, Batches, ModelSpec, Recipe, RobustCompressError, Task, TrainError

Terms = dict[str, tuple[Any, Any]]  # {name: (sum, weight)}
LOG = logging.getLogger("robust_compress")
LOG_EVERY = 20  # steps; the only moments at which the host waits for the device
_UNSHOWN = ("grad_norm", "learning_rate")  # beside the progress bar; metrics.jsonl has them


def train(
  model: ModelSpec,
  task: Task,
  batches: Batches,
  recipe: Recipe,
  workdir: epath.PathLike,
  *,
  variables: Mapping[str, Any],
  n_examples: int,
  seed: int = 0,
  mesh: Mesh | None = None,
  writer: Writer | None = None,
  groups: Sequence[optim.Group] = (),
  checkpoint_every: int | None = None,
  probe: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None,
  progress: bool = True,
) -> dict[str, Any]:
  """Trains `variables` by the recipe, or goes on where an earlier call with this workdir was cut off.

  Args:
    batches: start_step -> this host's rows of every batch from that step on: recipe.batch_size / n_hosts of them.
    workdir: gets checkpoints/, metrics.jsonl and training.json; on several hosts a folder that all of them see.
    variables: {'params': …, 'batch_stats': …} to start from, numpy or jax arrays; left as they are.
    n_examples: how many make an epoch.
    groups: parameters with an optimiser of their own.
    checkpoint_every: steps; by default a twentieth of the whole, within 50 and 2000.
    probe: measures the variables as they would be returned, at every checkpoint, on the first host alone; its numbers
      stand beside the losses. Where it cannot, that is logged.

  Returns:
    The trained variables as numpy arrays, raw or averaged as `recipe.evaluate` says.

  Raises:
    TrainError: a recipe that does not fit the data or the devices, a workdir of another training, batches that end, a
      loss that is not finite. The last good checkpoint is kept.
  """
  mesh = mesh or parallel.mesh()
  n_steps = optim.n_steps(recipe, n_examples)
  _check(recipe, mesh)
  workdir = epath.Path(workdir)
  chief = parallel.host() == 0
  workdir.mkdir(parents=True, exist_ok=True)
  _claim(workdir, {"model": model.name, "recipe": recipe.canonical(), "n_steps": n_steps, "seed": seed}, chief)
  checkpoint_every = checkpoint_every or min(max(n_steps // 20, 50), 2000)

  parts = (model, task, recipe, n_steps, mesh, tuple(groups))
  optimizer, step_fn = _compiled(*parts) if _is_hashable(parts) else _compiled.__wrapped__(*parts)
  fresh = initial_state(variables, optimizer, recipe, seed)
  checkpoints = Checkpoints(workdir / "checkpoints")
  restored = checkpoints.restore(fresh)
  state = parallel.replicate(fresh if restored is None else restored, mesh)
  start = int(fresh.step if restored is None else restored.step)

  jsonl = JsonlWriter(workdir / "metrics.jsonl")
  writers = [jsonl, *([writer] if writer else [])] if chief else []
  if chief:
    jsonl.rewind(start)
    overview = parameter_overview.get_parameter_overview(fresh.params, include_stats=False)
    LOG.info("%s from step %d of %d\n%s", model.name, start, n_steps, overview)
  bar = tqdm(
    total=n_steps, initial=start, desc=f"train {model.name}", unit="step", disable=not (progress and chief),
    mininterval=0.5 if sys.stderr.isatty() else 30.0,
  )  # fmt: skip

  pending: list[tuple[int, dict[str, jax.Array]]] = []  # numbers still on the device
  shown: dict[str, float] = {}  # the latest of every number
  stream = iter(batches(start)) if start < n_steps else iter(())
  try:
    for step in range(start, n_steps):
      batch = _next(stream, step, n_steps, recipe)
      state, numbers = step_fn(state, parallel.shard_batch(batch, mesh))
      pending.append((step, numbers))
      if len(pending) > 2:
        jax.block_until_ready(pending[-3][1])  # two steps ahead of the device are enough; more would only hold batches
      bar.update()
      save = (step + 1) % checkpoint_every == 0 or step + 1 == n_steps
      if save or (step + 1) % LOG_EVERY == 0:
        shown |= _log(pending, writers, checkpoints)
      if save:
        _save(checkpoints, state, step)
        if probe is not None and chief:
          shown |= _probed(probe, state, recipe, step, writers)
      bar.set_postfix({name: f"{shown[name]:.4g}" for name in shown if name not in _UNSHOWN}, refresh=False)
  finally:
    bar.close()
    getattr(stream, "close", lambda: None)()
    checkpoints.close()
  return result(state, recipe)


@functools.lru_cache(maxsize=2)
def _compiled(
  model: ModelSpec, task: Task, recipe: Recipe, n_steps: int, mesh: Mesh, groups: tuple[optim.Group, ...]
) -> tuple[optax.GradientTransformation, Callable]:
  """(optimiser, step), compiled once for the weights that a study finetunes alike on different points."""
  model = model.bound(dtype=recipe.dtype, batch_norm=recipe.batch_norm, dropout=recipe.dropout)
  groups = (*groups, *(optim.Group(pattern, optax.adam(rate)) for pattern, rate in model.own_rates))
  optimizer = optim.optimizer(recipe, n_steps, groups)
  return optimizer, train_step(model, task, recipe, optimizer, optim.schedule(recipe, n_steps), mesh)


def _is_hashable(value: Any) -> bool:
  """A user's ModelSpec may hold lists or arrays."""
  try:
    return isinstance(hash(value), int)
  except TypeError:
    return False


def initial_state(
  variables: Mapping[str, Any], optimizer: optax.GradientTransformation, recipe: Recipe, seed: int
) -> TrainState:
  """The state before the first step, as numpy arrays."""
  variables = jax.tree.map(np.asarray, dict(variables))
  params = variables["params"]
  state = TrainState(
    step=np.int32(0),
    params=params,
    collections={name: tree for name, tree in variables.items() if name != "params"},
    ema=variables if recipe.ema else None,
    opt_state=jax.jit(optimizer.init)(params),
    rng=jax.random.key_data(jax.random.key(seed)),
  )
  return parallel.to_host(state)


def result(state: TrainState, recipe: Recipe) -> dict[str, Any]:
  """The variables that training is for: numpy {'params': …, **collections}."""
  return parallel.to_host(state.ema if recipe.evaluate == "ema" else {"params": state.params, **state.collections})


def train_step(
  model: ModelSpec,
  task: Task,
  recipe: Recipe,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: Mesh,
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
  """Compiles (state, batch of all devices) -> (state, {'loss', every term, what the task monitors, 'grad_norm',
  'learning_rate'}).

  The state given is donated.
  """
  loss_of = model.own_loss or task.loss

  watched = getattr(task, "monitor", lambda outputs, batch: {})  # numbers that are shown and not minimised

  def terms(params: Any, collections: Any, batch: Any, rng: Any) -> tuple[Terms, Terms, Any]:
    variables = {"params": params, **collections}
    outputs, collections = model.apply(variables, batch, train=True, rngs={"dropout": rng})
    losses, others = loss_of(outputs, batch), watched(outputs, batch)
    if both := sorted(losses.keys() & others.keys()):
      raise TrainError(f"task {task.name} monitors {', '.join(both)}, which its loss is made of; give it another name")
    return losses, others, collections

  def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    rng_augment, rng_model = jax.random.split(jax.random.fold_in(rng, jax.lax.axis_index(AXIS)))
    batch = task.augment(batch, rng_augment, recipe)
    n_micro = recipe.gradient_accumulation
    parts = [
      (jax.tree.map(lambda x, i=i: x.reshape(n_micro, -1, *x.shape[1:])[i], batch), jax.random.fold_in(rng_model, i))
      for i in range(n_micro)
    ]

    # The weights of a mean must be known before its gradient. They seldom depend on what the network says, and then
    # the compiler drops the network from this pass.
    found = [terms(state.params, state.collections, *part) for part in parts]
    weighed = [{**losses, **others} for losses, others, _ in found]
    weights = {name: sum(one[name][1] for one in weighed) for name in weighed[0]}
    weights = jax.lax.psum(weights, AXIS)

    def mean(params: Any, collections: Any, batch: Any, rng: Any) -> tuple[jax.Array, Any]:
      losses, others, collections = terms(params, collections, batch, rng)
      means = {name: total / jnp.maximum(weights[name], 1e-12) for name, (total, _) in {**losses, **others}.items()}
      loss = sum(means[name] for name in losses)
      return loss, ({**means, "loss": loss}, collections)

    zeros = jax.tree.map(jnp.zeros_like, (state.params, {**weights, "loss": jnp.float32(0)}))
    collections, sums = state.collections, zeros
    for part in parts:
      # One microbatch after the other, so that memory holds one. A loop of XLA's would say the same, but its CPU
      # backend computes convolutions inside a loop 20 times slower (measured on jax 0.10).
      part, collections, sums = jax.lax.optimization_barrier((part, collections, sums))
      gradient, (means, collections) = jax.grad(mean, has_aux=True)(state.params, collections, *part)
      sums = jax.tree.map(jnp.add, sums, (gradient, means))
    gradient, means = jax.lax.psum(sums, AXIS)
    kept = ("batch_stats",) if recipe.batch_norm == "frozen" else ()
    collections = {
      name: tree if name in kept else jax.lax.pmean(collections[name], AXIS) for name, tree in state.collections.items()
    }

    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if recipe.ema:
      now = {"params": params, **collections}
      ema = jax.tree.map(lambda old, new: recipe.ema * old + (1 - recipe.ema) * new, ema, now)
    numbers = means if len(means) > 2 else {"loss": means["loss"]}  # one term is the loss itself
    numbers = {**numbers, "grad_norm": optax.global_norm(gradient), "learning_rate": schedule(state.step)}
    return TrainState(state.step + 1, params, collections, ema, opt_state, state.rng), numbers

  return parallel.map_step(step, mesh, (REPLICATED, ROWS), (REPLICATED, REPLICATED), donate=(0,))


def _check(recipe: Recipe, mesh: Mesh) -> None:
  """Raises TrainError or SpecError for a recipe that cannot be followed on this mesh."""
  for field, known in (
    ("evaluate", ("raw", "ema")),
    ("dtype", ("float32", "bfloat16")),
    ("batch_norm", ("sync", "local", "frozen")),
  ):
    if getattr(recipe, field) not in known:
      raise specs.nearest(f"recipe.{field}", getattr(recipe, field), known)
  if recipe.evaluate == "ema" and not recipe.ema:
    raise TrainError("recipe.evaluate='ema' needs a decay, such as ema=0.999; this recipe keeps no average (ema=0)")
  if (zoom := recipe.crop_zoom) is not None and not (len(zoom) == 2 and 0 < zoom[0] <= zoom[1] < np.inf):
    raise TrainError(f"recipe.crop_zoom is {zoom}; expected the least and the largest zoom, as in (1.0, 2.5)")
  parts = mesh.size * recipe.gradient_accumulation
  if recipe.batch_size % parts:
    raise TrainError(
      f"batch_size={recipe.batch_size} does not divide over {mesh.size} devices with gradient_accumulation="
      f"{recipe.gradient_accumulation}; use a multiple of {parts}"
    )


def _claim(workdir: epath.Path, identity: dict[str, Any], chief: bool) -> None:
  """Writes what is trained here; raises TrainError where that is something else."""
  path = workdir / "training.json"
  if path.exists():
    found = json.loads(path.read_text())
    different = [
      f"{key}: {found.get(key)} there, {identity[key]} now" for key in identity if found.get(key) != identity[key]
    ]
    if different:
      raise TrainError(
        f"{workdir} holds another training ({'; '.join(different)}); use another workdir or delete this one"
      )
  elif chief:
    write_atomic(path, json.dumps(identity).encode())


def _next(stream: Any, step: int, n_steps: int, recipe: Recipe) -> Batch:
  """The next batch; raises TrainError where there is none or it has another size than the recipe's."""
  batch = next(stream, None)
  if batch is None:
    raise TrainError(f"the batches ended at step {step} of {n_steps}; training batches repeat the data without end")
  n_rows, n_hosts = len(batch["image"]), parallel.n_hosts()
  if n_rows * n_hosts != recipe.batch_size:
    raise TrainError(
      f"step {step}: {n_rows} rows on each of {n_hosts} hosts, but the recipe has batch_size={recipe.batch_size}"
    )
  return batch


def _log(
  pending: list[tuple[int, dict[str, jax.Array]]], writers: Sequence[Writer], checkpoints: Checkpoints
) -> dict[str, float]:
  """Fetches and writes the numbers of all steps since the last time; returns the last ones.

  Raises TrainError at the first step whose loss or gradient is not finite.
  """
  for step, numbers in parallel.to_host(pending):
    step, scalars = int(step), {name: float(value) for name, value in numbers.items()}
    for writer in writers:
      writer.write_scalars(step, scalars)
    if not np.isfinite([scalars["loss"], scalars["grad_norm"]]).all():
      _flush(writers)
      good = checkpoints.last
      raise TrainError(
        f"step {step}: loss {scalars['loss']}, gradient norm {scalars['grad_norm']}, at learning rate "
        f"{scalars['learning_rate']:.3g}; lower learning_rate, set clip_norm=1 or lengthen warmup, in a new workdir "
        + (
          f"(good up to step {good}: {checkpoints.directory / str(good)})"
          if good is not None
          else "(nothing was saved yet)"
        )
      )
  pending.clear()
  _flush(writers)
  return scalars


def _probed(
  probe: Callable[[Mapping[str, Any]], Mapping[str, float]], state: TrainState, recipe: Recipe, step: int,
  writers: Sequence[Writer],
) -> Mapping[str, float]:  # fmt: skip
  """Writes what the probe measures; where it cannot, that is logged and no reason to stop training."""
  try:
    scalars = probe(result(state, recipe))
  except RobustCompressError as error:
    LOG.warning("step %d: the probe measured nothing: %s", step, error)
    return {}
  for writer in writers:
    writer.write_scalars(step, scalars)
  _flush(writers)
  return scalars


def _flush(writers: Sequence[Writer]) -> None:
  for writer in writers:
    writer.flush()


def _save(checkpoints: Checkpoints, state: TrainState, step: int) -> None:
  """Saves a state that can be gone on from; raises TrainError for one that cannot."""
  state = parallel.to_host(state)
  for path, leaf in jax.tree_util.tree_leaves_with_path((state.params, state.collections)):
    if not np.isfinite(leaf).all():
      name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
      raise TrainError(f"step {step}: {name} is not finite, last good step {checkpoints.last}; lower learning_rate")
  checkpoints.save(state)
