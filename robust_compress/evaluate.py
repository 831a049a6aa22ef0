"""Predictions and their scores: one pass over the data serves every target.

    batch ─▶ predict (on the devices, asynchronous) ─▶ predictions ─▶ task.statistics ─▶ one record a picture and target
                 the host scores batch i while the devices work on batch i + 1
    records, ids ─▶ task.compute and the paired bootstrap ─▶ Row

`predict` is any function of a batch. `Predictor` makes one of a model and its weights, `foreign` of a network in
another framework. Whatever it is, padding is cut off here and the result stands in the order of the ids, so it does
not depend on batch size, devices or hosts.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from tqdm import tqdm

from robust_compress import parallel, specs, statistics
from robust_compress.files import read_records, write_records
from robust_compress.parallel import REPLICATED, ROWS
from robust_compress.statistics import Records
from robust_compress.types import Arrays, Batch, Cell, DataError, ModelSpec, Row, Task

Predict = Callable[[Batch], Arrays]
Targets = Mapping[str, tuple[Sequence[str], Arrays] | None]  # None: those of the batches; else predictions by id


def n_in_flight() -> int:
  """Batches given to the devices and not yet scored: one is scored while the next is computed.

  On CPU host and device are the same cores, so that a second batch would wait, and cost the memory of its step.
  """
  return 1 if jax.default_backend() == "cpu" else 2


# ------------------------------------------------------------------------------------------- predictions


class Predictor:
  """A model and a task, compiled once for each shape of batch; weights are an argument.

  Runs on the devices of this host: hosts see different pictures and have nothing to say to each other.
  """

  def __init__(self, model: ModelSpec, task: Task, mesh: Mesh | None = None):
    self.mesh = mesh or parallel.local_mesh()

    def step(variables: Any, batch: Any) -> Arrays:
      outputs, _ = model.apply(variables, batch)
      return task.predict(outputs, batch)

    self._step = parallel.map_step(step, self.mesh, (REPLICATED, ROWS), ROWS)

  def bind(self, variables: Any) -> Predict:
    """Copies weights to the devices; the function returns at once, with arrays that are still being computed.

    Rows beyond the batch's own may follow, where it does not divide over the devices.
    """
    placed = parallel.replicate(variables, self.mesh)
    return lambda batch: self._step(placed, parallel.shard_batch(_padded(batch, self.mesh.size), self.mesh))

  def __call__(self, variables: Any, batch: Batch) -> dict[str, np.ndarray]:
    """Predictions of one batch as numpy arrays [b …]; to do many, `bind` the weights first."""
    n = len(batch["image"])
    return {name: np.asarray(value)[:n] for name, value in self.bind(variables)(batch).items()}


def foreign(call: Callable[[np.ndarray], Any], task: Task) -> Predict:
  """A function uint8[b h w 3] -> outputs of any framework (`models/callable.py`), as a `predict`."""
  from_outputs = jax.jit(task.predict)

  def predict(batch: Batch) -> Arrays:
    return from_outputs(jax.tree.map(np.asarray, call(batch["image"])), parallel.device_part(batch))

  return predict


def _padded(batch: Batch, multiple: int) -> Batch:
  """The first row repeated until the rows divide over the devices."""
  n_missing = -len(batch["image"]) % multiple
  if not n_missing:
    return batch
  part = parallel.device_part(batch)
  return {name: np.concatenate([value, np.repeat(value[:1], n_missing, 0)]) for name, value in part.items()}


# ------------------------------------------------------------------------------------------------ scores


@dataclass(frozen=True)
class Evaluation:
  """What one pass found, in the order of the ids."""

  ids: tuple[str, ...]
  records: dict[str, Records]  # target -> records [n …]
  n_bytes: np.ndarray  # int64[n], -1 where unknown
  n_pixels: np.ndarray  # int64[n], of what the codec saw
  n_skipped: int = 0
  predictions: Records | None = None  # [n …], where they were asked for: the targets of 'self'
  wall_s: float = 0.0

  @property
  def bpps(self) -> np.ndarray | None:
    """Bits per pixel of each picture, float64[n]; None unless the bytes of all are known."""
    return None if (self.n_bytes < 0).any() else 8.0 * self.n_bytes / self.n_pixels

  def as_self(self) -> tuple[tuple[str, ...], Records]:
    """The predictions as the target 'self' of another pass."""
    if self.predictions is None:
      raise ValueError("evaluate(…, keep_predictions=True) keeps what target 'self' is made of")
    return self.ids, self.predictions


def evaluate(
  predict: Predict,
  task: Task,
  batches: Iterable[Batch],
  targets: Targets | None = None,
  *,
  keep_predictions: bool = False,
  progress: str = "",
  n_examples: int | None = None,
) -> Evaluation:
  """Predicts and scores every unmasked picture once, under every target.

  Args:
    batches: need 'image' and 'id'; 'mask', 'skipped', 'n_bytes' and 'n_pixels' where they say something.
    targets: by their name in a cell: {'labels': None, 'self(score=0.5)': original.as_self()}. Default: labels.
    keep_predictions: keeps them for target 'self'; otherwise memory grows by the records only.
    progress: text of the progress bar, '' for none; `n_examples` lets it tell the time left.

  Raises:
    DataError: no picture at all, or one whose own prediction on the original is missing.
  """
  start = time.monotonic()
  targets = {"labels": None} if targets is None else targets
  truths = {name: _truth(task, name, given) for name, given in targets.items()}
  parts = [_empty(targets, keep_predictions)]
  in_flight: deque[tuple[Batch, Arrays]] = deque()
  limit = n_in_flight()
  bar = tqdm(
    total=n_examples,
    desc=progress,
    unit="picture",
    disable=not progress,
    mininterval=0.5 if sys.stderr.isatty() else 30.0,
  )

  def score_oldest() -> None:
    parts.append(_score(task, *in_flight.popleft(), truths, keep_predictions))
    bar.update(len(parts[-1].ids) + parts[-1].n_skipped)

  with bar:
    for batch in batches:
      in_flight.append((batch, predict(batch)))
      if len(in_flight) == limit:
        score_oldest()
    while in_flight:
      score_oldest()
  evaluation = replace(merge(parts), wall_s=time.monotonic() - start)
  return evaluation if parallel.n_hosts() > 1 else _some(evaluation)  # of several hosts, one may have no picture


def _truth(task: Task, target: str, given: tuple[Sequence[str], Arrays] | None) -> Callable[[list[str], Batch], Arrays]:
  """(ids of the rows, the rows) -> targets of the rows."""
  if given is None:
    return lambda ids, rows: rows
  ids, predictions = given
  truth = task.as_targets(predictions, **dict(specs.parse_call(target)[1]))
  index = {id: i for i, id in enumerate(ids)}

  def look_up(ids: list[str], rows: Batch) -> Arrays:
    missing = [id for id in ids if id not in index]
    if missing:
      raise DataError(
        f"target {target!r}: {len(missing)} pictures have no prediction on the original, the first is {missing[0]!r}; "
        "evaluate the original over the same pictures"
      )
    return statistics.take(truth, np.array([index[id] for id in ids], np.int64))

  return look_up


def _score(
  task: Task,
  batch: Batch,
  predictions: Arrays,
  truths: Mapping[str, Callable[[list[str], Batch], Arrays]],
  keep_predictions: bool,
) -> Evaluation:
  """The Evaluation of one batch. Waits for its predictions."""
  shape = batch["image"].shape  # [b h w 3] or [b t h w 3]
  rows = np.flatnonzero(batch.get("mask", np.ones(shape[0], bool)))
  kept = {name: np.asarray(value)[rows] for name, value in batch.items() if name != "image"}
  predicted = {name: np.asarray(value)[rows] for name, value in predictions.items()}
  ids = [str(id) for id in kept["id"]]
  records = {
    name: statistics.stack(task.statistics(predicted, truth(ids, kept))) if ids else {}
    for name, truth in truths.items()
  }
  n = len(ids)
  return Evaluation(
    tuple(ids),
    records,
    np.asarray(kept.get("n_bytes", np.full(n, -1)), np.int64),
    np.asarray(kept.get("n_pixels", np.full(n, np.prod(shape[1:-1]))), np.int64),
    int(np.sum(batch.get("skipped", 0))),
    _kept(task, predicted) if keep_predictions else None,
  )


def _kept(task: Task, predictions: Arrays) -> Records:
  """What stays in memory of predictions until they are targets."""
  return dict(task.packed(predictions) if hasattr(task, "packed") else predictions)


def _empty(targets: Iterable[str], keep_predictions: bool) -> Evaluation:
  nothing = np.zeros(0, np.int64)
  return Evaluation((), {name: {} for name in targets}, nothing, nothing, 0, {} if keep_predictions else None)


def _some(evaluation: Evaluation) -> Evaluation:
  """The evaluation, unless it is of no picture."""
  if evaluation.ids:
    return evaluation
  if evaluation.n_skipped:
    raise DataError(f"nothing to evaluate: all {evaluation.n_skipped} pictures were unreadable and skipped")
  raise DataError("nothing to evaluate: the data holds no picture; check its name, split and slice")


# -------------------------------------------------------------------------------------- hosts and rows


def merge(parts: Sequence[Evaluation]) -> Evaluation:
  """Joins evaluations of different pictures, such as those of batches or hosts, in the order of the ids."""
  ids = [id for part in parts for id in part.ids]
  order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)

  def joined(pieces: Sequence[Records]) -> Records:
    return statistics.take(statistics.concatenate(pieces), order)

  return Evaluation(
    tuple(ids[i] for i in order),
    {target: joined([part.records[target] for part in parts]) for target in parts[0].records},
    np.concatenate([part.n_bytes for part in parts])[order],
    np.concatenate([part.n_pixels for part in parts])[order],
    sum(part.n_skipped for part in parts),
    None if parts[0].predictions is None else joined([part.predictions or {} for part in parts]),
    max(part.wall_s for part in parts),
  )


def across_hosts(evaluation: Evaluation, directory: epath.PathLike, name: str) -> Evaluation:
  """The whole of what the hosts evaluated a part of each, on all of them; called by all with the same `name`.

  Parts travel as files in `directory`, which every host sees; nothing but two numbers goes over the network.
  """
  n_hosts = parallel.n_hosts()
  if n_hosts == 1:
    return evaluation
  paths = [epath.Path(directory) / f"{name}.part-{host:05d}-of-{n_hosts:05d}.npz" for host in range(n_hosts)]
  _write(evaluation, paths[parallel.host()])
  numbers = parallel.gather(np.array([evaluation.n_skipped, evaluation.wall_s]))  # also waits for the files
  parts = [_read(path, evaluation) for path in paths]
  whole = replace(merge(parts), n_skipped=int(numbers[:, 0].sum()), wall_s=float(numbers[:, 1].max()))
  parallel.barrier(f"read {name}")
  paths[parallel.host()].unlink()
  return _some(whole)


def _write(evaluation: Evaluation, path: epath.Path) -> None:
  arrays = {"n_bytes": evaluation.n_bytes, "n_pixels": evaluation.n_pixels}
  tables = {f"record|{target}": records for target, records in evaluation.records.items()}
  if evaluation.predictions is not None:
    tables["predictions"] = evaluation.predictions
  arrays |= {f"{table}|{name}": values for table, records in tables.items() for name, values in records.items()}
  write_records(path, evaluation.ids, arrays)


def _read(path: epath.Path, like: Evaluation) -> Evaluation:
  """What `_write` wrote on a host that evaluated the same targets as `like`."""
  ids, arrays, _ = read_records(path)

  def table(title: str) -> Records:
    return {name.removeprefix(f"{title}|"): values for name, values in arrays.items() if name.startswith(f"{title}|")}

  records = {target: table(f"record|{target}") for target in like.records}
  predictions = None if like.predictions is None else table("predictions")
  return Evaluation(tuple(ids), records, arrays["n_bytes"], arrays["n_pixels"], predictions=predictions)


def row(
  cell: Cell,
  evaluation: Evaluation,
  task: Task,
  *,
  fingerprint: Mapping[str, str],
  provenance: Mapping[str, Any] | None = None,
  n_replicates: int = 1000,
) -> tuple[Row, dict[str, np.ndarray]]:
  """The row of a cell whose target was evaluated, and the replicates {metric: float64[r]} behind its intervals."""
  records, bpps = evaluation.records[cell.target], evaluation.bpps
  replicates = statistics.replicates(task.compute, records, evaluation.ids, n_replicates)
  n_bytes, n_pixels = (None if bpps is None else int(evaluation.n_bytes.sum())), int(evaluation.n_pixels.sum())
  made = Row(
    cell=cell,
    n=len(evaluation.ids),
    metrics=dict(task.compute(records, None)),
    intervals={name: statistics.interval(values) for name, values in replicates.items()},
    n_bytes=n_bytes,
    n_pixels=n_pixels,
    bpp=None if n_bytes is None else 8 * n_bytes / n_pixels,
    bpp_mean=None if bpps is None else float(bpps.mean()),
    fingerprint=dict(fingerprint),
    provenance=dict(provenance or {}),
    wall_s=evaluation.wall_s,
    n_skipped=evaluation.n_skipped,
  )
  return made, replicates
