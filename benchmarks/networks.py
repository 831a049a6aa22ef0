"""Networks without trained weights, and their bare compiled step: what nothing around it can be faster than."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robust_compress import models
from robust_compress.types import Arrays, ModelSpec, Task


def random_variables(model: ModelSpec, seed: int = 0) -> dict[str, Any]:
  """Variables of the model as numpy arrays: weights that keep the scale of what passes, norms that change nothing.

  Made by numpy, as compiling a network's initialiser can take longer than the benchmark.
  """
  rng = np.random.default_rng(seed)

  def made(path: Any, leaf: Any) -> np.ndarray:
    if len(leaf.shape) > 1:
      return (rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(leaf.dtype)
    return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

  return jax.tree_util.tree_map_with_path(made, models.template(model))


def bare_step(model: ModelSpec, task: Task, variables: Any, batch: int | Arrays) -> Callable[[], Any]:
  """The compiled way from a batch, or from noise for so many pictures, to predictions; one call is one step."""

  def step(variables: Any, batch: Any) -> Any:
    return task.predict(model.apply(variables, batch)[0], batch)

  if isinstance(batch, int):
    batch = {"image": np.random.default_rng(0).integers(0, 256, (batch, *model.input.size, 3), np.uint8)}
  return compiled(step, variables, batch)


def compiled(step: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
  """A function of arrays that lie on the device."""
  placed = jax.device_put(arguments)
  ready = jax.jit(step).lower(*placed).compile()
  return lambda: ready(*placed)


def timed(step: Callable[[], Any], n: int) -> float:
  """Seconds of n steps, of which two are under way at a time, as in `evaluate`."""
  start, previous = time.perf_counter(), None
  for _ in range(n):
    running = step()
    jax.block_until_ready(previous)
    previous = running
  jax.block_until_ready(previous)
  return time.perf_counter() - start


def device() -> str:
  return f"{jax.device_count()} × {jax.devices()[0].device_kind}"
