"""Protocols: from a grid (model, data, points) to the cells that answer a question.

    protocol   weights                          tested on              target   paper
    baseline   base                             original               labels   Janeiro 2023, scenario A
    shifted    base                             every p                labels   Janeiro B, Poyser 2020 (a), Reich 2024
    finetuned  base, finetuned on p             p                      labels   Janeiro C, Poyser (b)
    control    base, finetuned on originals     original and every p   labels   Janeiro, section 3.2
    relative   base                             every p                self     Reich
    matrix     base, finetuned on p             every q                labels   train level × test level
    mixed      base, finetuned on p per example every p                labels   one network for all levels

A protocol runs nothing and is not part of a cell's identity: those that ask for the same number yield equal cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from robust_compress import specs
from robust_compress.types import NONE, STARTED, Cell, Point, SpecError, Weights


@dataclass(frozen=True)
class Grid:
  """One model on one data set over the points of a study."""

  task: str
  model: str
  base: Weights  # what the study starts from
  test_data: str  # format_data(Data)
  train_data: str = ""  # needed by the protocols that finetune, as is `recipe`
  points: tuple[Point, ...] = ()  # the levels swept; the original belongs to every grid and need not be named
  finetune_points: tuple[Point, ...] = ()  # those finetuned on; default: all of `points`
  recipe: str = ""  # Recipe.canonical()
  seeds: tuple[int, ...] = (0,)  # of finetuning
  self_target: str = "self"  # target of `relative`, with the task's options: 'self(score=0.5)'

  def __post_init__(self) -> None:
    points = _coded(self.points)
    object.__setattr__(self, "points", points)
    object.__setattr__(self, "finetune_points", _coded(self.finetune_points) or points)

  def finetuned(self, points: tuple[Point, ...], seed: int) -> Weights:
    """The base weights, trained further on pictures at `points` (several: one drawn per example)."""
    if not self.train_data or not self.recipe:
      absent = "recipe" if self.train_data else "train_data"
      raise SpecError(
        f"grid of {self.model}: finetuning needs {absent}; name it, or leave out the protocol that finetunes"
      )
    return Weights("", self.base, self.train_data, points, self.recipe, seed)

  def cell(self, weights: Weights, test: Point, target: str = "labels") -> Cell:
    return Cell(self.task, self.model, weights, self.test_data, test, target)


def _coded(points: Iterable[Point]) -> tuple[Point, ...]:
  return tuple(dict.fromkeys(point for point in points if not is_original(point)))


def is_original(point: Point) -> bool:
  return point.codec == NONE.codec


# ---------------------------------------------------------------------------------------- the protocols


def baseline(grid: Grid) -> Iterator[Cell]:
  yield grid.cell(grid.base, NONE)


def shifted(grid: Grid) -> Iterator[Cell]:
  for point in grid.points:
    yield grid.cell(grid.base, point)


def finetuned(grid: Grid) -> Iterator[Cell]:
  for seed in grid.seeds:
    for point in grid.finetune_points:
      yield grid.cell(grid.finetuned((point,), seed), point)


def control(grid: Grid) -> Iterator[Cell]:
  for seed in grid.seeds:
    for point in (NONE, *grid.points):
      yield grid.cell(grid.finetuned((NONE,), seed), point)


def relative(grid: Grid) -> Iterator[Cell]:
  """Coded points only: against its own output, the original scores 1 by definition."""
  for point in grid.points:
    yield grid.cell(grid.base, point, grid.self_target)


def matrix(grid: Grid) -> Iterator[Cell]:
  for seed in grid.seeds:
    for trained in grid.finetune_points:
      for point in grid.points:
        yield grid.cell(grid.finetuned((trained,), seed), point)


def mixed(grid: Grid) -> Iterator[Cell]:
  for seed in grid.seeds:
    for point in grid.points:
      yield grid.cell(grid.finetuned(grid.finetune_points, seed), point)


PROTOCOLS: dict[str, tuple[Callable[[Grid], Iterator[Cell]], str]] = {
  "baseline": (baseline, "A: base weights on originals"),
  "shifted": (shifted, "B: base weights on every point"),
  "finetuned": (finetuned, "C: finetuned on a point, tested on it"),
  "control": (control, "finetuned on originals by the same recipe, tested on the original and every point"),
  "relative": (relative, "base weights on every point, against their own output on the original"),
  "matrix": (matrix, "finetuned on a point, tested on every point"),
  "mixed": (mixed, "finetuned with a point drawn per example, tested on every point"),
}


def plan(grids: Grid | Iterable[Grid], names: Sequence[str]) -> list[Cell]:
  """The cells of all protocols named, over all grids: each once, in order of first mention."""
  for name in names:
    if name not in PROTOCOLS:
      raise specs.nearest("protocol", name, PROTOCOLS, "robust-compress list protocols")
  grids = [grids] if isinstance(grids, Grid) else grids
  return list(dict.fromkeys(cell for grid in grids for name in names for cell in PROTOCOLS[name][0](grid)))


# ------------------------------------------------------------------------------------ what a cell stands for


def role(cell: Cell, base: Weights | None = None) -> str:
  """'A', 'B', 'C', 'control', 'matrix', 'mixed' or 'relative': the part a cell plays in a report.

  `base` names the study's base weights where they were themselves trained here from others, as when control weights
  are taken as base. Without it, weights are base when they were not trained here, or on originals from random ones.
  """
  weights = cell.weights
  if cell.target != "labels":
    return "relative"
  if weights == base or (base is None and is_base(weights)):
    return "A" if is_original(cell.test) else "B"
  if all(is_original(point) for point in weights.points):
    return "control"
  if len(weights.points) > 1:
    return "mixed"
  return "C" if weights.points == (cell.test,) else "matrix"


def is_base(weights: Weights) -> bool:
  """Whether these are weights that a study starts from: given from outside, random, or trained on originals from
  random ones."""
  if weights.init is None:
    return True
  start = weights.init.source
  return (start == "random" or start.startswith(f"{STARTED}:")) and all(is_original(point) for point in weights.points)


def describe(cell: Cell, base: Weights | None = None) -> str:
  """One line for people: 'resnet18 finetuned on jpeg@10 (seed 1), scenes:test at jpeg@10'."""
  weights, test = cell.weights, "originals" if is_original(cell.test) else str(cell.test)
  trained = ""
  if weights != base and not is_base(weights):
    on = ", ".join("originals" if is_original(point) else str(point) for point in weights.points)
    trained = f" finetuned on {on}" + (f" (seed {weights.seed})" if weights.seed else "")
  against = "" if cell.target == "labels" else f", against {cell.target}"
  return f"{cell.model}{trained}, {cell.data} at {test}{against}"
