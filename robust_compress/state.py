"""What training is at a step, and its checkpoints by Orbax.

    TrainState (on host) ──▶ flat {path: array} + CRC ──Orbax, in the background──▶ checkpoints/<step>/
    newest checkpoint that is whole ──▶ TrainState

A checkpoint is written under a temporary name and renamed, and the one before it is kept until then; so whatever kills
the process, there is a whole one to go on from.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import struct

from robust_compress.types import StoreError, TrainError


@struct.dataclass
class TrainState:
  """All that the next step depends on, apart from its batch."""

  step: Any  # int32[]: steps done
  params: Any
  collections: Any  # {'batch_stats': …}: what a network updates by running
  ema: Any  # moving average of {'params': …, **collections}, or None
  opt_state: Any
  rng: Any  # uint32[2]: key data; every step folds its number in, so it never changes


class Checkpoints:
  """The checkpoints of one training, in one folder; used by all hosts together."""

  def __init__(self, directory: epath.PathLike, keep: int = 2):
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    self.directory = epath.Path(directory)
    self._manager = ocp.CheckpointManager(self.directory.resolve(), options=options)

  def save(self, state: TrainState) -> None:
    """Writes a state of numpy arrays, in the background; raises what the save before it raised."""
    arrays = _flatten(state)
    items = {"state": ocp.args.PyTreeSave(arrays), "meta": ocp.args.JsonSave({"crc": _crc(arrays)})}
    with self._telling():
      self._manager.save(int(arrays["step"]), args=ocp.args.Composite(**items), force=True)

  def restore(self, template: TrainState) -> TrainState | None:
    """The newest whole checkpoint as numpy arrays, or None where there is none yet.

    A damaged one is deleted with a warning and the one before it taken. Raises TrainError when all are damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      try:
        return self._read(step, template)
      except Exception as error:  # Orbax, tensorstore and zlib each raise their own for damaged files
        logging.warning(
          "checkpoint %s is damaged (%s); going back to the one before", self.directory / str(step), error
        )
        self._manager.delete(step)
    if steps:
      raise TrainError(
        f"{self.directory}: none of the checkpoints {steps} can be read; delete the folder to start anew"
      )
    return None

  def _read(self, step: int, template: TrainState) -> TrainState:
    items = {"state": ocp.args.PyTreeRestore(), "meta": ocp.args.JsonRestore()}
    found = self._manager.restore(step, args=ocp.args.Composite(**items))
    expected = _flatten(template)
    if found.state.keys() != expected.keys():
      raise ValueError(f"it holds other arrays: {sorted(found.state.keys() ^ expected.keys())[:4]}")
    # A scalar comes back as a Python number.
    arrays = {path: np.asarray(found.state[path], expected[path].dtype) for path in expected}
    if _crc(arrays) != found.meta["crc"]:
      raise ValueError("its checksum is wrong")
    return jax.tree.unflatten(jax.tree.structure(template), arrays.values())

  @property
  def last(self) -> int | None:
    """Step of the newest checkpoint."""
    self.wait()
    return self._manager.latest_step()

  def wait(self) -> None:
    """Blocks until what was saved is on disk."""
    with self._telling():
      self._manager.wait_until_finished()

  def close(self) -> None:
    try:
      self.wait()
    finally:
      self._manager.close()

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # a full disk comes as tensorstore's, Orbax's or the system's own error
      raise StoreError(
        f"{self.directory}: a checkpoint could not be written ({error}); those before it are kept: free some space and "
        "run the same command again"
      ) from error


def _flatten(state: TrainState) -> dict[str, np.ndarray]:
  """{path: array} in the order of the tree's leaves."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _crc(arrays: dict[str, np.ndarray]) -> int:
  crc = 0
  for path, array in arrays.items():
    crc = zlib.crc32(np.ascontiguousarray(array), zlib.crc32(path.encode(), crc))
  return crc
