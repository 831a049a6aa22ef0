"""Data parallelism in one place: hosts, the mesh, and a per-device step mapped over it.

    step(state, rows of one device) ──map_step──▶ step(state on every device, rows of all devices)
    this host's rows b/n_hosts ──shard_batch──▶ one global array of b rows over axis 'batch'

A step is written for one device and reduces by collectives over axis `AXIS` (`jax.lax.psum(x, AXIS)`), the pmap way;
the same code runs on one CPU, eight GPUs and a TPU pod.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from robust_compress import allocator
from robust_compress.types import Batch, DataError, RobustCompressError

allocator.keep_freed_memory()  # before any device starts its threads

AXIS = "batch"
REPLICATED = P()  # the same on every device
ROWS = P(AXIS)  # leading axis divided over the devices
HOST_ONLY = ("id", "n_bytes", "n_pixels", "skipped")  # entries of a batch that no device needs


# ------------------------------------------------------------------------------------------------ hosts


def initialize() -> None:
  """Joins the other processes of this run, once, where the environment speaks of any. Comes before any use of jax.

  Either JAX_COORDINATOR_ADDRESS=host:port with JAX_NUM_PROCESSES and JAX_PROCESS_ID, or JAX_COORDINATOR_ADDRESS=auto
  for what jax finds out by itself (TPU pods, Open MPI, Kubernetes); Slurm steps of several tasks need nothing.
  CPU processes talk by gloo.
  """
  if jax.distributed.is_initialized():
    return
  address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
  if address == "auto":
    del os.environ["JAX_COORDINATOR_ADDRESS"]  # jax would take it for a host
    jax.distributed.initialize()
  elif address:
    jax.distributed.initialize(address, _environ_int("JAX_NUM_PROCESSES"), _environ_int("JAX_PROCESS_ID"))
  elif "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
    jax.distributed.initialize()


def _environ_int(name: str) -> int:
  value = os.environ.get(name, "")
  if not value.isdigit():
    raise RobustCompressError(
      f"JAX_COORDINATOR_ADDRESS is set but {name} is {value!r}; several hosts need JAX_NUM_PROCESSES "
      "(how many) and JAX_PROCESS_ID (which, from 0); unset JAX_COORDINATOR_ADDRESS to run on one"
    )
  return int(value)


def host() -> int:
  """Index of this process, from 0."""
  return jax.process_index()


def n_hosts() -> int:
  return jax.process_count()


def barrier(name: str) -> None:
  """Waits until every host is here. `name` must be the same everywhere and used once at a time."""
  if n_hosts() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def gather(values: np.ndarray) -> np.ndarray:
  """float32[k] of every host, as float32[n_hosts k], on all of them; also a barrier."""
  from jax.experimental import multihost_utils

  return np.asarray(multihost_utils.process_allgather(np.asarray(values, np.float32))).reshape(n_hosts(), -1)


# ---------------------------------------------------------------------------------------------- devices


def mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """A 1-D mesh over axis 'batch' of all devices of all hosts, or of those given."""
  return Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))


def local_mesh() -> Mesh:
  """The devices of this host alone: what evaluation runs on, since it has nothing to reduce."""
  return mesh(jax.local_devices())


def map_step(step: Callable, mesh: Mesh, in_specs: Any, out_specs: Any, donate: tuple[int, ...] = ()) -> Callable:
  """Compiles a per-device step for the mesh. `in_specs` and `out_specs` are trees of REPLICATED and ROWS.

  Outputs said to be REPLICATED must be reduced by the step itself; the first device's are taken.
  """
  mapped = jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
  compiled = jax.jit(mapped, donate_argnums=donate)
  if _may_queue(mesh):
    return compiled
  return lambda *args: jax.block_until_ready(compiled(*args))


def _may_queue(mesh: Mesh) -> bool:
  """False where a second step must not start before the first has ended.

  The CPU devices of one process share a pool of threads; the collectives of two steps in flight can each hold some of
  them and wait for the rest for ever (seen on jax 0.10).
  """
  return mesh.local_mesh.size == 1 or mesh.devices.flat[0].platform != "cpu"


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
  """This host's rows, numpy[b/n_hosts …], as global arrays [b …]; ids and byte counts stay behind.

  Raises DataError when the rows do not divide over this host's devices.
  """
  sharding = NamedSharding(mesh, ROWS)
  n_rows, n_devices = len(batch["image"]), mesh.local_mesh.size
  if n_rows % n_devices:
    raise DataError(f"a batch of {n_rows} rows does not divide over {n_devices} devices; use a multiple of {n_devices}")
  part = device_part(batch)
  return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in part.items()}


def device_part(batch: Batch) -> dict[str, np.ndarray]:
  """The entries of a batch that a compiled step can take and may need."""
  arrays = {name: np.asarray(value) for name, value in batch.items() if name not in HOST_ONLY}
  return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}


def replicate(tree: Any, mesh: Mesh) -> Any:
  """A tree of numpy arrays, equal on all hosts, copied to every device of the mesh.

  The copies share no memory with the originals, so a step may donate them.
  """
  sharding = NamedSharding(mesh, REPLICATED)

  def put(leaf: Any) -> jax.Array:
    value = np.array(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

  return jax.tree.map(put, tree)


def to_host(tree: Any) -> Any:
  """A replicated tree as numpy arrays that own their memory."""
  jax.block_until_ready(tree)
  return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf), tree)
