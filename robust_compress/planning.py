"""What a study will cost, before anything runs: pictures to code and to evaluate, steps to train, bytes of disk."""

from __future__ import annotations

import contextlib
import typing

from robust_compress import codecs, optim, protocols, specs
from robust_compress.cells import points_of, targets
from robust_compress.data import shards
from robust_compress.levels import reach_text
from robust_compress.types import Cell, Clip, CodecError, DataError, Point, Source, Weights, WeightsError

if typing.TYPE_CHECKING:
  from robust_compress.study import Study

SAMPLE = 4  # pictures that are coded to estimate the size of the rest


def describe(study: Study) -> str:
  """A table of the cells and the sums of what is missing. Data that is not on this machine counts as '?'.

  Target rates are looked for on a sample of the test data, so that those out of reach are told before anything runs.
  """
  out_of_reach = _out_of_reach(study)
  out = {cell for cell in study.cells if out_of_reach.keys() & points_of(cell)}
  missing = set(study.missing()) - out
  todo = [cell for cell in study.cells if cell in missing]
  codings = [pair for pair in study.codings(todo) if not study.bench.pictures.is_coded(*pair)]
  untrained = [(cell.model, weights) for cell in todo for weights in study.untrained([cell])]
  untrained = list(dict.fromkeys(untrained))
  passes = dict.fromkeys((cell.model, cell.weights, cell.data, cell.test) for cell in todo)
  n_out = f", {len(out)} out of reach" if out else ""
  lines = [f"{len(study.cells)} cells, {len(study.cells) - len(missing) - len(out)} done{n_out}", ""]
  lines += [f"  {_state(cell, missing, out)}  {protocols.describe(cell)}" for cell in study.cells]
  lines += ["", *out_of_reach.values()] if out else []
  lines += [
    "",
    f"to code      {_sum(_length(study, data) for data, _ in codings)} pictures at {len(codings)} points",
    f"to train     {_sum(_steps(study, weights) for _, weights in untrained)} steps for {len(untrained)} weights",
    f"to evaluate  {_sum(_length(study, data) for *_, data, _ in passes)} pictures in {len(passes)} passes",
    f"disk         {_bytes(study, codings, untrained)}",
  ]
  return "\n".join(lines)


def _state(cell: Cell, missing: set[Cell], out: set[Cell]) -> str:
  return "out " if cell in out else "todo" if cell in missing else "done"


def _out_of_reach(study: Study) -> dict[Point, str]:
  """Target rates that no level of their codec meets on a sample, with those that can be. None without the data."""
  found = {}
  with contextlib.suppress(CodecError, DataError):
    for point in targets(study.cells):
      found[point] = study.bench.pictures.levels.sought(point)
  return {point: reach_text(point, one) for point, one in found.items() if not one.reachable}


def _sum(numbers: typing.Iterable[int | None]) -> str:
  known = list(numbers)
  return "?" if None in known else f"{sum(n for n in known if n is not None):,}"


def _length(study: Study, data: str) -> int | None:
  """Pictures of a data set; None where it is not on this machine and its size is not published."""
  return study.bench.pictures.n_examples(data)


def _steps(study: Study, weights: Weights) -> int | None:
  recipe = specs.parse_recipe(weights.recipe)
  n = _length(study, weights.data)
  return recipe.steps if recipe.steps is not None else None if n is None else optim.n_steps(recipe, n)


def _bytes(study: Study, codings: list[tuple[str, Point]], untrained: list[tuple[str, Weights]]) -> str:
  """Coded pictures by the size of a few of them; weights with two checkpoints and the optimiser's moments."""
  try:
    sources = {data: study.bench.pictures.source(data) for data, _ in codings}
  except DataError:
    return "? (the data is not on this machine)"
  try:
    kept = {pair: study.bench.pictures.keeps_pixels(*pair) for pair in codings}
    coded = sum(_coded_bytes(sources[data], point, kept[data, point]) for data, point in codings)
  except (DataError, WeightsError) as error:
    return f"? ({error})"
  weights = sum(4 * 7 * study.bench.models[model].n_params for model, _ in untrained)
  return (
    f"about {(coded + weights) / 1e6:,.0f} MB ({coded / 1e6:,.0f} MB of pictures, {weights / 1e6:,.0f} MB of weights)"
  )


def _coded_bytes(source: Source, point: Point, keep_pixels: bool) -> float:
  """By the sample's pictures that can be read. Raises DataError where none can."""
  clips, bad = [], None
  for index in range(0, len(source), max(1, len(source) // SAMPLE)):
    try:
      clips.append(source.picture(index).clip)
    except DataError as error:  # told, or skipped, when it is to be coded
      bad = error
  if bad is not None and not clips:
    raise bad
  pixels = sum(len(shards.pack_pixels(clip)) for clip in clips) if keep_pixels else 0
  return (_bytes_of(clips, point) + pixels) * len(source) / max(1, len(clips))


def _bytes_of(clips: list[Clip], point: Point) -> float:
  """At a target rate, what it says; at a level, what it comes to."""
  if point.bpp is not None:
    return point.bpp * sum(clip[..., 0].size for clip in clips) / 8
  codec = codecs.load_codec(point)
  return sum(len(codec.encode([clip], [point.level])[0].blob) for clip in clips)
