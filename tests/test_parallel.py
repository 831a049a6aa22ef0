import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from robust_compress import parallel
from robust_compress.parallel import AXIS, REPLICATED, ROWS
from robust_compress.types import DataError, RobustCompressError


def test_rows_are_divided_over_the_devices_and_reduced_by_collectives():
  mesh = parallel.mesh()
  assert mesh.size == 2

  def step(scale, batch):
    local = batch["image"].astype(jnp.float32).sum() * scale
    return jax.lax.psum(local, AXIS), local[None]

  mapped = parallel.map_step(step, mesh, (REPLICATED, ROWS), (REPLICATED, ROWS))
  data = tiny_model.pictures(8)
  total, parts = mapped(parallel.replicate(np.float32(2), mesh), parallel.shard_batch(data, mesh))
  sums = data["image"].astype(np.float64).reshape(2, -1).sum(1)
  np.testing.assert_allclose(parts, 2 * sums, rtol=1e-6)
  np.testing.assert_allclose(total, 2 * sums.sum(), rtol=1e-6)


def test_only_numbers_travel_to_the_devices():
  data = {**tiny_model.pictures(4), "n_bytes": np.full(4, 2**40), "ragged": np.array([None] * 4, object)}
  sharded = parallel.shard_batch(data, parallel.mesh())
  assert set(sharded) == {"image", "label", "mask"}
  np.testing.assert_array_equal(sharded["image"], data["image"])


def test_rows_that_do_not_divide_are_an_error():
  with pytest.raises(DataError, match="3 rows does not divide over 2 devices; use a multiple of 2"):
    parallel.shard_batch(tiny_model.pictures(3), parallel.mesh())


@pytest.mark.parametrize("n_devices", [1, 2])
def test_replicas_may_be_donated_without_harm_to_the_originals(n_devices):
  mesh = parallel.mesh(jax.devices()[:n_devices])
  originals = {"numpy": np.ones((64, 64), np.float32), "jax": jnp.ones((64, 64))}
  mapped = parallel.map_step(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), mesh, (REPLICATED,), REPLICATED, donate=(0,)
  )
  found = parallel.to_host(mapped(parallel.replicate(originals, mesh)))
  for name, original in originals.items():
    np.testing.assert_array_equal(original, 1)
    np.testing.assert_array_equal(found[name], 2)


def test_one_host_needs_no_environment(monkeypatch):
  monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
  parallel.initialize()
  parallel.barrier("alone")
  assert (parallel.host(), parallel.n_hosts()) == (0, 1)


def test_half_an_environment_is_an_error(monkeypatch):
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
  monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
  with pytest.raises(RobustCompressError, match="JAX_NUM_PROCESSES is ''"):
    parallel.initialize()
