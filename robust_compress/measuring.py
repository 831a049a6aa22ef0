"""From cells to rows: one pass of the pictures through a network serves every cell that asks for it.

model ──compiled once──▶ (weights, data) ──▶ point ──pass──▶ Evaluation ──▶ records, then the row, of each target
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from robust_compress import evaluate as evaluation
from robust_compress import parallel, protocols, provenance, showcase, specs
from robust_compress.bench import Bench
from robust_compress.cells import grouped
from robust_compress.data import boxes, pipeline
from robust_compress.evaluate import Evaluation, Predict, Targets
from robust_compress.inspect import audit_summary
from robust_compress.store import Store
from robust_compress.types import NONE, Cell, Source, Weights

LOG = logging.getLogger("robust_compress")


class Measuring:
  """Measures cells whose weights are trained and whose pictures are coded.

  Args:
    bench: what their names stand for.
    store: where the first host puts rows and records.
    replace: rows of other conditions are archived, instead of being an error.
  """

  def __init__(self, bench: Bench, store: Store, replace: bool = False):
    self.bench, self.store, self.replace, self.config = bench, store, replace, bench.config
    self._originals: dict[str, dict[str, str] | None] = {}
    self._predictor: tuple[str, Callable[[Any], Predict]] | None = None
    self._bound: tuple[str, Weights, Predict] | None = None

  def predict(self, name: str, weights: Weights) -> Predict:
    """A model with weights. What was compiled for the model asked for last is kept, and the weights asked for last."""
    if self._bound is None or self._bound[:2] != (name, weights):
      self._bound = None  # not two networks at once
      if self._predictor is None or self._predictor[0] != name:
        self._predictor = name, self.bench.predictor(name)
      self._bound = name, weights, self._predictor[1](self.bench.variables(name, weights))
    return self._bound[2]

  def model(self, name: str, cells: Sequence[Cell]) -> None:
    """Measures the cells of one model: one compilation serves all its weights and points."""
    for (weights, _), group in grouped(cells, lambda cell: (cell.weights, cell.data)):
      predict = self.predict(name, weights)
      own = None
      if any(cell.target != "labels" for cell in group):
        labelled = any(cell.test == NONE and cell.target == "labels" for cell in group)  # else it may have no labels
        original = dataclasses.replace(group[0], test=NONE)
        own = self._pass(predict, original, {"labels": None} if labelled else {}, keep_predictions=True)
      for test, here in grouped(group, lambda cell: cell.test):
        targets = {cell.target: None if own is None or cell.target == "labels" else own.as_self() for cell in here}
        reused = own is not None and test == NONE and set(targets) == {"labels"}
        found = own if own is not None and reused else self._pass(predict, here[0], targets)
        for cell in here:
          self._keep(cell, found)

  def _pass(self, predict: Predict, cell: Cell, targets: Targets, keep_predictions: bool = False) -> Evaluation:
    """Every picture of the cell's data at its point through the network once, over all hosts."""
    name, data, test = cell.model, cell.data, cell.test
    source = self.bench.labelled(self.bench.models[name], data, test)
    watched = showcase.watched(self.bench, predict, cell)
    found = self.over(source, watched, name, data, str(test), targets, keep_predictions)
    n_left_out = 0 if test == NONE else len(self.bench.pictures.source(data)) - len(source)
    return dataclasses.replace(found, n_skipped=found.n_skipped + n_left_out)

  def over(
    self, source: Source, predict: Predict, name: str, data: str, what: str, targets: Targets,
    keep_predictions: bool = False,
  ) -> Evaluation:  # fmt: skip
    """Every picture of a source of `data` through the network once, over all hosts; `what` says which source it is."""
    batches = pipeline.eval_batches(
      source, self.bench.models[name].input, specs.parse_data(data).view, self.config.batch_size,
      host=parallel.host(), n_hosts=parallel.n_hosts(), backend=self.config.backend, on_bad=self.config.on_bad,
    )  # fmt: skip
    label = f"{name} at {'originals' if what == str(NONE) else what}"
    found = evaluation.evaluate(
      predict, self.bench.task, batches, targets,
      keep_predictions=keep_predictions, progress=label if parallel.host() == 0 else "",
      n_examples=-(-len(source) // parallel.n_hosts()),
    )  # fmt: skip
    return evaluation.across_hosts(found, self.bench.workdir / "records", specs.key_of([name, data, what]))

  def _keep(self, cell: Cell, found: Evaluation) -> None:
    """Records first, the row last: a row promises that its records are there."""
    if parallel.host() != 0:
      return
    row, replicates = evaluation.row(
      cell, found, self.bench.task, fingerprint=self.bench.fingerprint(cell), provenance=self._provenance(cell, found)
    )
    self.store.put_records(cell, found.ids, found.records[cell.target], replicates, self.replace)
    self.store.put(row, self.replace)
    LOG.info("%s: %s at %s bpp", protocols.describe(cell), row.metrics, row.bpp)

  def _provenance(self, cell: Cell, evaluated: Evaluation) -> dict[str, Any]:
    """With how compressed the originals were before anything was done to them, which objects there were in the pictures
    that were evaluated and what became of other boxes, and how a target rate was met."""
    if cell.data not in self._originals:  # naming what was found means a look at every file's size and time
      source = self.bench.pictures.source(cell.data)
      self._originals[cell.data] = audit_summary.kept(source, cell.data, self.bench.workdir)
    originals = self._originals[cell.data]
    found: dict[str, Any] = {} if originals is None else {"originals": originals}
    if counts := boxes.counts_of(self.bench.pictures.source(cell.data), evaluated.ids):
      found["annotations"] = counts
    if cell.test.bpp is not None:
      found["target_rate"] = self.bench.pictures.achieved(cell.data, cell.test)
    return {**provenance.provenance(), **found}
