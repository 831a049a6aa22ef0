"""From a config to the cells it asks for, and what cells have in common.

config ──grids──▶ Grid, one a model ──protocols.plan──▶ cells
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from robust_compress import settings, specs
from robust_compress.bench import Bench
from robust_compress.codecs import canonical_point
from robust_compress.protocols import Grid
from robust_compress.types import Cell, Point, SpecError, Weights

MEASURING = ("baseline", "shifted", "relative")  # protocols that train nothing


def grids(config: ConfigDict, bench: Bench) -> list[Grid]:
  """One grid a model, with every spec in canonical form, so that equal studies share cells.

  Raises SpecError for an empty or a contradictory config.
  """
  for key in ("models", "test_data"):
    if not config[key]:
      raise SpecError(f"config: {key} is empty; name at least one, as in the examples of configs/")
  test, train = (_canonical(text) for text in (config.test_data, config.train_data))
  points, finetuned = (tuple(map(canonical_point, texts)) for texts in (config.points, config.finetune_points))
  recipe = settings.recipe_of(config.recipe).canonical() if settings.has_length(config.recipe) else ""
  bases = {name: bench.base_weights(name) for name in bench.models}
  finetuning = [name for name in config.protocols if name not in MEASURING]
  if finetuning and Weights("random") in bases.values():
    raise SpecError(
      f"{', '.join(finetuning)}: base weights to finetune are random; set base_recipe to train them first"
    )
  _, options = specs.parse_call(config.self_target)
  as_self = functools.partial(bench.task.as_targets, {})  # whose parameters are options of 'self' alone
  specs.check_options(f"{config.self_target!r} for {bench.task.name}", dict(options), as_self)
  shared = (test, train, points, finetuned, recipe, tuple(config.seeds), config.self_target)
  return [Grid(config.task, name, base, *shared) for name, base in bases.items()]


def _canonical(data: str) -> str:
  return specs.format_data(specs.parse_data(data)) if data else ""


def chain(weights: Weights) -> list[Weights]:
  """The weights that lead to these, those they start from first."""
  return [*(chain(weights.init) if weights.init else []), weights]


def points_of(cell: Cell) -> tuple[Point, ...]:
  """What the cell is tested on and what its weights were trained on."""
  return cell.test, *(point for weights in chain(cell.weights) for point in weights.points)


def targets(cells: Iterable[Cell]) -> list[Point]:
  """The target rates at which cells are tested or their weights were trained, each once."""
  return list(dict.fromkeys(point for cell in cells for point in points_of(cell) if point.bpp is not None))


def grouped(cells: Iterable[Cell], key: Callable[[Cell], Any]) -> list[tuple[Any, list[Cell]]]:
  """Cells by key, keys in order of first mention."""
  groups: dict[Any, list[Cell]] = {}
  for cell in cells:
    groups.setdefault(key(cell), []).append(cell)
  return list(groups.items())
