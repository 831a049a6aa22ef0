"""A study: the cells a config asks for, and the verbs that turn them into rows and a report.

    config ──protocols──▶ cells ──store──▶ missing cells
      compress  (data, point) of the missing cells ──▶ coded/<codec>-<key>/
      train     weights of the missing cells       ──▶ weights/<model>-<key>/
      evaluate  weights × (data, point)            ──▶ rows/<key>.json, records/<key>.npz, answers/<key>/
                base weights × learned codec, JPEG ──▶ failures/<key>/
      report    rows                               ──▶ report/report.html

Each verb does only what is not on disk yet, so a study that was cut off is finished by running it again. The command
line's verbs are the methods of `Study`:

    study = Study(config, "runs/mine")
    study.run()
"""

from __future__ import annotations

import functools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from robust_compress import files, parallel, planning, protocols, showcase, specs, store
from robust_compress import train as training
from robust_compress.bench import Bench
from robust_compress.cells import chain, grids, grouped, points_of, targets
from robust_compress.coding import Coding
from robust_compress.data import pipeline
from robust_compress.failures import Failures
from robust_compress.measuring import Measuring
from robust_compress.metric_writers import tensorboard
from robust_compress.protocols import Grid
from robust_compress.report import report
from robust_compress.types import NONE, Cell, ModelSpec, Point, StoreError, Weights

LOG = logging.getLogger("robust_compress")
Coded = tuple[str, Point]  # a data set at a point
Probe = Callable[[Mapping[str, Any]], Mapping[str, float]]  # of variables
N_PROBED = 2  # pictures


class Study:
  """All cells of one config in one workdir.

  Args:
    config: as `settings.default_config()`; see `configs/` for examples.
    workdir: folder of everything that is kept; made when absent.
    replace: measure, train and code anew what was made under other conditions than today's, and archive the old rows,
      records and weights.
    beam: options of Apache Beam, whose runner codes pictures then; () codes them on the hosts of this run.

  Raises:
    StoreError: a workdir in a bucket.
  """

  def __init__(self, config: ConfigDict, workdir: str | os.PathLike, replace: bool = False, beam: Sequence[str] = ()):
    if not files.is_local(workdir):
      raise StoreError(f"workdir {workdir} is not a folder of this machine; mount the bucket and name the mounted path")
    parallel.initialize()
    jax.config.update("jax_default_matmul_precision", config.precision)
    self.config, self.workdir, self.replace = config, pathlib.Path(workdir), replace
    self.store = store.Store(self.workdir)
    self.bench = Bench(config, self.workdir, replace)
    self.coding = Coding(self.bench.pictures, replace, beam)

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

  def unreachable(self) -> dict[Cell, str]:
    """Cells at a target rate that was found out of the codec's reach, each with the rates that can be had."""
    notice = self.bench.pictures.levels.notice
    told = {cell: "; ".join(filter(None, map(notice, dict.fromkeys(points_of(cell))))) for cell in self.cells}
    return {cell: text for cell, text in told.items() if text}

  def codings(self, cells: Iterable[Cell]) -> list[Coded]:
    """What must be coded before these cells can be trained and measured, each once, in order."""
    wanted = []
    for cell in cells:
      wanted.append((cell.data, cell.test))
      for weights in self.untrained([cell]):
        wanted += [(weights.data, point) for point in weights.points]
    coded_as = self.bench.pictures.levels.coded_as  # target rates share the pictures of their level
    pairs = dict.fromkeys((data, coded_as(point) or point) for data, point in wanted)
    return [pair for pair in pairs if pair[1] != NONE]

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
      missing = self.missing()
      self._check_labels(missing)
      for point in targets(missing):
        self.coding.settle(point)
      for data, point in self.codings(self.missing()):
        self.coding.code(data, point)
      if parallel.host() == 0:
        showcase.keep(self.bench, self.cells, self.config.n_examples)

  def train(self) -> None:
    """Trains the weights that missing cells need."""
    with self._working():
      for model, cells in grouped(self.missing(), lambda cell: cell.model):
        for weights in self.untrained(cells):
          self._train(model, weights)

  def evaluate(self) -> None:
    """Measures the missing cells: one pass a (weights, data, point), whatever the number of targets.

    Base weights on learned codecs are also compared with JPEG at equal bytes, picture by picture.
    """
    with self._working():
      measuring = Measuring(self.bench, self.store, self.replace)
      failures = Failures(measuring, self.coding, self.replace)
      missing, uncompared = self.missing(), failures.missing(self.cells)
      for model in dict.fromkeys(cell.model for cell in (*missing, *uncompared)):
        measuring.model(model, [cell for cell in missing if cell.model == model])
        failures.model(model, [cell for cell in uncompared if cell.model == model])
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
    score = dict(specs.parse_call(self.config.self_target)[1]).get("score", 0.5)  # from which on boxes count as found
    return report(
      rows, self.page.parent,
      results=self.store, planned=self.cells, unreachable=self.unreachable(),
      examples=self.workdir / "examples", failures=self.workdir / "failures", answers=self.workdir / "answers",
      per_class=getattr(self.bench.task, "per_class", None), score=score, title=title,
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

  def _check_labels(self, cells: list[Cell]) -> None:
    """Raises what measuring and training would raise, before hours of coding have passed."""
    fed = [(cell.model, cell.data) for cell in cells]
    fed += [(cell.model, weights.data) for cell in cells for weights in self.untrained([cell])]
    for model, data in dict.fromkeys(fed):
      self.bench.labelled(self.bench.models[model], data)

  def _train(self, name: str, weights: Weights) -> None:
    """From the weights it starts from, as its recipe says, on its data at its points."""
    model, recipe = self.bench.models[name], specs.parse_recipe(weights.recipe)
    directory, view = self.bench.trained.folder(name, weights), specs.parse_data(weights.data).view
    sources = [self.bench.labelled(model, weights.data, point) for point in weights.points]
    batches = pipeline.train_batches(
      sources, model.input, view, recipe, weights.seed,
      host=parallel.host(), n_hosts=parallel.n_hosts(), backend=self.config.backend, on_bad=self.config.on_bad,
    )  # fmt: skip
    if parallel.host() == 0:
      self.bench.trained.claim(name, weights)
    parallel.barrier(f"claimed {directory.name}")
    LOG.info("training %s", protocols.describe(Cell("", name, weights, weights.data, NONE)))
    variables = training.train(
      model, self.bench.task, batches, recipe, directory,
      variables=self.bench.variables(name, weights.init), n_examples=len(sources[0]), seed=weights.seed,
      writer=tensorboard(directory / "tensorboard") if self.config.tensorboard and parallel.host() == 0 else None,
      checkpoint_every=self.config.checkpoint_every or None, probe=self._probe(model),
    )  # fmt: skip
    if parallel.host() == 0:
      self.bench.trained.keep(name, weights, variables)
    parallel.barrier(f"trained {directory.name}")

  def _probe(self, model: ModelSpec) -> Probe | None:
    """What a model measures of itself while it is trained, on the first test pictures; most have nothing to."""
    if not hasattr(model, "probe"):
      return None

    @functools.cache
    def opened() -> Probe:
      source = self.bench.pictures.source(self.config.test_data)
      return model.probe([source.picture(index).clip for index in range(min(N_PROBED, len(source)))])

    return lambda variables: opened()(variables)  # which the first host alone calls


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
