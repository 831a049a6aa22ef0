"""What a study will cost, before anything runs: pictures to code and to evaluate, steps to train, bytes of disk."""

from __future__ import annotations

import typing

from robust_compress import optim, protocols, specs
from robust_compress.types import DataError, Point, Source, Weights

if typing.TYPE_CHECKING:
  from robust_compress.study import Study

SAMPLE = 4  # pictures that are coded to estimate the size of the rest


def describe(study: Study) -> str:
  """A table of the cells and the sums of what is missing. Data that is not on this machine counts as '?'."""
  missing = set(study.missing())
  lines = [f"{len(study.cells)} cells, {len(study.cells) - len(missing)} done", ""]
  lines += [f"  {'todo' if cell in missing else 'done'}  {protocols.describe(cell)}" for cell in study.cells]
  todo = [cell for cell in study.cells if cell in missing]
  codings = [pair for pair in study.codings(todo) if not study.bench.is_coded(*pair)]
  untrained = [(cell.model, weights) for cell in todo for weights in study.untrained([cell])]
  untrained = list(dict.fromkeys(untrained))
  passes = dict.fromkeys((cell.model, cell.weights, cell.data, cell.test) for cell in todo)
  lines += [
    "",
    f"to code      {_sum(_length(study, data) for data, _ in codings)} pictures at {len(codings)} points",
    f"to train     {_sum(_steps(study, weights) for _, weights in untrained)} steps for {len(untrained)} weights",
    f"to evaluate  {_sum(_length(study, data) for *_, data, _ in passes)} pictures in {len(passes)} passes",
    f"disk         {_bytes(study, codings, untrained)}",
  ]
  return "\n".join(lines)


def _sum(numbers: typing.Iterable[int | None]) -> str:
  known = list(numbers)
  return "?" if None in known else f"{sum(n for n in known if n is not None):,}"


def _length(study: Study, data: str) -> int | None:
  """Pictures of a data set; None where it is not on this machine and its size is not published."""
  return study.bench.n_examples(data)


def _steps(study: Study, weights: Weights) -> int | None:
  recipe = specs.parse_recipe(weights.recipe)
  n = _length(study, weights.data)
  return recipe.steps if recipe.steps is not None else None if n is None else optim.n_steps(recipe, n)


def _bytes(study: Study, codings: list[tuple[str, Point]], untrained: list[tuple[str, Weights]]) -> str:
  """Coded pictures by the size of a few of them; weights with two checkpoints and the optimiser's moments."""
  try:
    sources = {data: study.bench.source(data) for data, _ in codings}
  except DataError:
    return "? (the data is not on this machine)"
  try:
    coded = sum(_coded_bytes(study, sources[data], point) for data, point in codings)
  except DataError as error:
    return f"? ({error})"
  weights = sum(4 * 7 * study.bench.models[model].n_params for model, _ in untrained)
  return (
    f"about {(coded + weights) / 1e6:,.0f} MB ({coded / 1e6:,.0f} MB of pictures, {weights / 1e6:,.0f} MB of weights)"
  )


def _coded_bytes(study: Study, source: Source, point: Point) -> int:
  """By the sample's pictures that can be read. Raises DataError where none can."""
  codec, clips, bad = study.bench.codec(point), [], None
  for index in range(0, len(source), max(1, len(source) // SAMPLE)):
    try:
      clips.append(source.picture(index).clip)
    except DataError as error:  # told, or skipped, when it is to be coded
      bad = error
  if bad is not None and not clips:
    raise bad
  coded = codec.encode(clips, [study.bench.level(point)] * len(clips))
  return sum(len(one.blob) for one in coded) * len(source) // max(1, len(clips))
