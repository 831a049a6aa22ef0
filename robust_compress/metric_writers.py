"""Where the numbers of a training go: a JSONL file always, TensorBoard when asked.

One line of `metrics.jsonl` is one step: {"step": 7, "loss": 0.31, "learning_rate": 0.01, …}. Where a model is probed
at a checkpoint, its numbers are a second line of that step, without a loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from etils import epath

from robust_compress.files import write_atomic
from robust_compress.types import StoreError


class Writer(Protocol):
  """What `train` needs of a metric writer; CLU's have it."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...
  def flush(self) -> None: ...


class JsonlWriter:
  """Appends a line a step. Lines are kept back until `flush`."""

  def __init__(self, path: epath.PathLike):
    self.path = epath.Path(path)
    self._lines: list[str] = []

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    self._lines.append(json.dumps({"step": int(step), **{name: float(value) for name, value in scalars.items()}}))

  def flush(self) -> None:
    try:
      with self.path.open("a") as file:
        file.write("".join(line + "\n" for line in self._lines))
    except OSError as error:
      raise StoreError(f"{self.path} cannot be written ({error}); free some space and run the command again") from error
    self._lines.clear()

  def rewind(self, step: int) -> None:
    """Forgets the steps from `step` on, and a last line cut off by a kill: they are about to be done again."""
    kept = [line for line in read_jsonl(self.path) if line["step"] < step]
    write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def read_jsonl(path: epath.PathLike) -> list[dict[str, Any]]:
  """The whole lines of a metrics file, [] where there is none."""
  path = epath.Path(path)
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  return [json.loads(line) for line in lines]


def tensorboard(directory: epath.PathLike) -> Writer:
  """CLU's writer of TensorBoard files and log lines. Imports tensorflow."""
  from clu import metric_writers

  return metric_writers.create_default_writer(directory)
