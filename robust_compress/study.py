"""A study: the cells a config asks for, and the verbs that turn them into rows and a report.

    config ──protocols──▶ cells ──store──▶ missing cells
      compress  (data, point) of the missing cells ──▶ coded/<codec>-<key>/
      train     weights of the missing cells       ──▶ weights/<model>-<key>/
      evaluate  weights × (data, point)            ──▶ rows/<key>.json, records/<key>.npz
      report    rows                               ──▶ report/report.html

Each verb does only what is not on disk yet, so a study that was cut off is finished by running it again. The command
line's verbs are the methods of `Study`:

    study = Study(config, "runs/mine")
    study.run()
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from robust_compress import compress as coding
from robust_compress import evaluate as evaluation
from robust_compress import files, parallel, planning, protocols, provenance, showcase, specs, store
from robust_compress import train as training
from robust_compress.bench import Bench
from robust_compress.cells import chain, grids, grouped, points_of
from robust_compress.data import pipeline
from robust_compress.evaluate import Evaluation, Predict, Targets
from robust_compress.metric_writers import tensorboard
from robust_compress.protocols import Grid
from robust_compress.report import report
from robust_compress.types import NONE, Cell, Point, StoreError, Weights

LOG = logging.getLogger("robust_compress")
Coding = tuple[str, Point]  # a data set to be coded at a point


class Study:
  """All cells of one config in one workdir.

  Args:
    config: as `settings.default_config()`; see `configs/` for examples.
    workdir: folder of everything that is kept; made when absent.
    replace: measure, train and code anew what was made under other conditions than today's, and archive the old rows,
      records and weights.

  Raises:
    StoreError: a workdir in a bucket.
  """

  def __init__(self, config: ConfigDict, workdir: str | os.PathLike, replace: bool = False):
    if not files.is_local(workdir):
      raise StoreError(f"workdir {workdir} is not a folder of this machine; mount the bucket and name the mounted path")
    parallel.initialize()
    jax.config.update("jax_default_matmul_precision", config.precision)
    self.config, self.workdir, self.replace = config, pathlib.Path(workdir), replace
    self.store = store.Store(self.workdir)
    self.bench = Bench(config, self.workdir, replace)

  # ---------------------------------------------------------------------------------- what there is to do

  @functools.cached_property
  def grids(self) -> list[Grid]:
    return grids(self.config, self.bench)

  @functools.cached_property
  def cells(self) -> list[Cell]:
    return protocols.plan(self.grids, self.config.protocols)

  def missing(self) -> list[Cell]:
    """Cells without a row that can have one. Raises StoreError for a row that was measured under other conditions."""
    unreachable = self.unreachable()
    cells = [cell for cell in self.cells if cell not in unreachable]
    return self.store.missing(cells, self.bench.fingerprint, self.replace)

  def unreachable(self) -> set[Cell]:
    """Cells at a target rate that was found out of the codec's reach."""
    return {cell for cell in self.cells if any(self._is_unreachable(point) for point in points_of(cell))}

  def _is_unreachable(self, point: Point) -> bool:
    resolved = None if point.bpp is None else self.bench.resolved(point)
    return resolved is not None and not resolved.reachable

  def codings(self, cells: Iterable[Cell]) -> list[Coding]:
    """What must be coded before these cells can be trained and measured, each once, in order."""
    wanted = []
    for cell in cells:
      wanted.append((cell.data, cell.test))
      for weights in self.untrained([cell]):
        wanted += [(weights.data, point) for point in weights.points]
    return [pair for pair in dict.fromkeys(wanted) if pair[1] != NONE]

  def untrained(self, cells: Iterable[Cell]) -> list[Weights]:
    """Weights that these cells need and that are not there, each after those it starts from."""
    chains = [(cell.model, weights) for cell in cells for weights in chain(cell.weights)]
    return [weights for model, weights in dict.fromkeys(chains) if not self.bench.is_ready(model, weights)]

  def plan(self) -> str:
    """The cells, which are done, and what the rest will cost, as text."""
    return planning.describe(self)

  # ---------------------------------------------------------------------------------------------- verbs

  def run(self) -> pathlib.Path:
    """Does all that is missing; returns the path of report.html."""
    with self._working():
      self.compress()
      self.train()
      self.evaluate()
      if parallel.host() == 0:
        self.report()
      return self.page

  def compress(self) -> None:
    """Codes the pictures that missing cells need."""
    with self._working():
      for point in dict.fromkeys(
        point for cell in self.missing() for point in points_of(cell) if point.bpp is not None
      ):
        self.bench.resolve(point)
      for data, point in self.codings(self.missing()):
        self._code(data, point)
      if parallel.host() == 0:
        showcase.keep(self.bench, self.cells, self.config.n_examples)

  def train(self) -> None:
    """Trains the weights that missing cells need."""
    with self._working():
      for model, cells in grouped(self.missing(), lambda cell: cell.model):
        for weights in self.untrained(cells):
          self._train(model, weights)

  def evaluate(self) -> None:
    """Measures the missing cells: one pass a (weights, data, point), whatever the number of targets."""
    with self._working():
      for model, cells in grouped(self.missing(), lambda cell: cell.model):
        self._evaluate_model(model, cells)
      parallel.barrier("evaluated")  # the first host writes the rows, and the others may be asked for what is missing

  @property
  def page(self) -> pathlib.Path:
    """Where the report is, or will be."""
    return self.workdir / "report" / "report.html"

  def report(self) -> pathlib.Path:
    """Draws what the workdir holds of this study; needs no model and no data."""
    asked = {specs.cell_key(cell) for cell in self.cells}
    rows = [row for row in self.store.rows() if specs.cell_key(row.cell) in asked]
    title = self.config.title or "Recognition under compression"
    return report(
      rows, self.page.parent,
      results=self.store, planned=self.cells, unreachable=self.unreachable(),
      examples=self.workdir / "examples", title=title,
    )  # fmt: skip

  @contextmanager
  def _working(self) -> Iterator[None]:
    """The workdir is this command's alone, and its log is written there; nests.

    The first host locks it for all. Where it cannot, none begins, and none is left waiting.
    """
    with ExitStack() as stack:
      failure = None
      if parallel.host() == 0:
        try:
          stack.enter_context(store.lock(self.workdir))
          stack.enter_context(_log_file(self.workdir / "log.txt"))
        except Exception as error:
          failure = error
      all_well = parallel.n_hosts() == 1 or bool(parallel.gather(np.array([failure is None])).all())
      if failure is not None:
        raise failure
      if not all_well:
        raise StoreError(f"{self.workdir} could not be locked by the first host; its own message says why")
      yield

  # ------------------------------------------------------------------------------------ parts of the verbs

  def _code(self, data: str, point: Point) -> None:
    source, level = self.bench.source(data), self.bench.level(point)
    directory = self.bench.coded_dir(data, point)
    job = coding.Job(source, self.bench.codec(point), level, directory, str(point), self.config.on_bad)
    coding.write_shards(
      job, host=parallel.host(), n_hosts=parallel.n_hosts(),
      n_workers=self.config.n_workers or None, replace=self.replace,
    )  # fmt: skip
    parallel.barrier(f"coded {directory.name}")
    if parallel.host() == 0:
      coding.finish(job)
    parallel.barrier(f"finished {directory.name}")

  def _train(self, name: str, weights: Weights) -> None:
    """From the weights it starts from, as its recipe says, on its data at its points."""
    model, recipe = self.bench.models[name], specs.parse_recipe(weights.recipe)
    directory, view = self.bench.weights_dir(name, weights), specs.parse_data(weights.data).view
    sources = [self.bench.labelled(model, weights.data, point) for point in weights.points]
    batches = pipeline.train_batches(
      sources, model.input, view, recipe, weights.seed,
      host=parallel.host(), n_hosts=parallel.n_hosts(), backend=self.config.backend, on_bad=self.config.on_bad,
    )  # fmt: skip
    if parallel.host() == 0:
      self.bench.claim_weights(name, weights)
    parallel.barrier(f"claimed {directory.name}")
    LOG.info("training %s", protocols.describe(Cell("", name, weights, weights.data, NONE)))
    variables = training.train(
      model, self.bench.task, batches, recipe, directory,
      variables=self.bench.variables(name, weights.init), n_examples=len(sources[0]), seed=weights.seed,
      writer=tensorboard(directory / "tensorboard") if self.config.tensorboard and parallel.host() == 0 else None,
      checkpoint_every=self.config.checkpoint_every or None,
    )  # fmt: skip
    if parallel.host() == 0:
      self.bench.keep_variables(name, weights, variables)
    parallel.barrier(f"trained {directory.name}")

  def _evaluate_model(self, name: str, cells: list[Cell]) -> None:
    """One compilation serves all weights and points of a model."""
    predictor = self.bench.predictor(name)
    for (weights, data), group in grouped(cells, lambda cell: (cell.weights, cell.data)):
      predict = predictor(self.bench.variables(name, weights))
      own = None
      if any(cell.target != "labels" for cell in group):
        labelled = any(cell.test == NONE and cell.target == "labels" for cell in group)  # else it may have no labels
        own = self._pass(predict, name, data, NONE, {"labels": None} if labelled else {}, keep_predictions=True)
      for test, here in grouped(group, lambda cell: cell.test):
        targets = {cell.target: None if own is None or cell.target == "labels" else own.as_self() for cell in here}
        reused = own is not None and test == NONE and set(targets) == {"labels"}
        found = own if own is not None and reused else self._pass(predict, name, data, test, targets)
        for cell in here:
          self._keep(cell, found)

  def _pass(
    self, predict: Predict, name: str, data: str, test: Point, targets: Targets, keep_predictions: bool = False
  ) -> Evaluation:
    """Every picture of `data` at `test` through the network once, over all hosts."""
    model = self.bench.models[name]
    source = self.bench.labelled(model, data, test)
    batches = pipeline.eval_batches(
      source, model.input, specs.parse_data(data).view, self.config.batch_size,
      host=parallel.host(), n_hosts=parallel.n_hosts(), backend=self.config.backend, on_bad=self.config.on_bad,
    )  # fmt: skip
    label = f"{name} at {'originals' if test == NONE else test}"
    found = evaluation.evaluate(
      predict, self.bench.task, batches, targets,
      keep_predictions=keep_predictions, progress=label if parallel.host() == 0 else "",
      n_examples=-(-len(source) // parallel.n_hosts()),
    )  # fmt: skip
    whole = evaluation.across_hosts(found, self.workdir / "records", specs.key_of([name, data, str(test)]))
    n_left_out = 0 if test == NONE else len(self.bench.source(data)) - len(source)
    return dataclasses.replace(whole, n_skipped=whole.n_skipped + n_left_out)

  def _keep(self, cell: Cell, found: Evaluation) -> None:
    """Records first, the row last: a row promises that its records are there."""
    if parallel.host() != 0:
      return
    row, replicates = evaluation.row(
      cell, found, self.bench.task, fingerprint=self.bench.fingerprint(cell), provenance=self._provenance(cell)
    )
    self.store.put_records(cell, found.ids, found.records[cell.target], replicates, self.replace)
    self.store.put(row, self.replace)
    LOG.info("%s: %s at %s bpp", protocols.describe(cell), row.metrics, row.bpp)

  def _provenance(self, cell: Cell) -> dict[str, Any]:
    """With the level that a target rate came to."""
    resolved = None if cell.test.bpp is None else self.bench.resolved(cell.test)
    return {**provenance.provenance(), **({} if resolved is None else {"resolved": resolved._asdict()})}


@contextmanager
def _log_file(path: pathlib.Path) -> Iterator[None]:
  """What is logged goes to the end of a file; the terminal is left to progress bars."""
  path.parent.mkdir(parents=True, exist_ok=True)
  handler = logging.FileHandler(path)
  handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
  if any(getattr(other, "baseFilename", None) == handler.baseFilename for other in LOG.handlers):
    handler.close()
    yield
    return
  LOG.setLevel(logging.INFO)
  LOG.propagate = False
  LOG.addHandler(handler)
  try:
    yield
  finally:
    LOG.removeHandler(handler)
    handler.close()
