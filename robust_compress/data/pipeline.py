"""From a source to batches, ahead of the model, in an order that anyone can recompute.

    position ──order(seed, epoch)──▶ example ──picture──▶ clip ──geometry──▶ row ──┐
    position ──…──────────────────────────────────────────────────────────▶ row ──┴──▶ batch uint8[b h w 3]

A model of clips gets uint8[b t h w 3], or pairs uint8[b t-1 2 h w 3]. Labels that have a place in the picture (boxes,
segmentations) move with its pixels in training; for evaluation they stay in the view, and 'place' float32[b 6] says
where in it an input's pixels lie (`geometry_ops.place`). What a row holds is a pure function of its position in the run
(and of seed, recipe and sources), so a run resumes at any step, several hosts split a batch without talking, and both
backends give the same bytes:

- 'threads': a pool decodes up to AHEAD batches while the model runs; nothing but Python is needed.
- 'tf.data': the same function called from `tf.data` through `numpy_function`.

Sources yield pictures under the view already (`ViewedSource`, or a coded cache of it); from the view only `input` and
`frames` are read here. Memory stays at a few batches however long the source is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from robust_compress import provenance
from robust_compress.data import colour_ops, geometry_ops
from robust_compress.data.geometry_ops import Geometry, Size
from robust_compress.data.inputs import Inputs
from robust_compress.data.order import Order, hash_of
from robust_compress.specs import nearest
from robust_compress.types import Batch, Batches, DataError, InputSpec, Picture, Recipe, Source, SpecError, View

AHEAD = 3  # batches under way while the model has one
Target = Mapping[str, np.ndarray]


class Row(NamedTuple):
  """One row of a batch. The defaults are those of padding."""

  image: np.ndarray | None  # uint8[h w 3], or of clips as `video_ops.arranged`; under fit='pad' not yet padded
  id: str = ""
  target: Target | None = None  # None: zeros, in a row that is masked out
  mask: bool = False
  skipped: bool = False
  n_bytes: int = -1
  n_pixels: int = 0
  place: np.ndarray | None = None  # of `geometry_ops.place`


# ------------------------------------------------------------------------------------------ evaluation


def eval_batches(
  source: Source,
  input: InputSpec,
  view: View,
  batch_size: int,
  *,
  host: int = 0,
  n_hosts: int = 1,
  backend: str = "threads",
  on_bad: str = "error",
  n_threads: int | None = None,
) -> Iterator[Batch]:
  """Every example once, nearly in the source's order; host h has examples h::n_hosts, of all hosts' `batch_size`.

  Batches hold image uint8[b h w 3], id str[b], mask bool[b], skipped bool[b], n_bytes int64[b] (-1: unknown), n_pixels
  int64[b] of what the codec saw, and the targets, as label int32[b]. All hosts yield equally many, but where inputs
  have no one size and come canvas by canvas. What a batch lacks is padded: mask False, id ''. Under on_bad='skip' an
  unreadable picture, or one whose labels are, keeps its id, with mask False and skipped True.

  Raises:
    DataError: an unreadable picture or label under on_bad='error', or pictures of several sizes under input=asis.
  """
  n_rows = _rows_per_host(batch_size, n_hosts)
  skip, inputs = _skips(on_bad), Inputs(source, input, view)
  blank = inputs.blank

  def row(position: int) -> Row:
    index = position * n_hosts + host
    if index >= len(source):
      return Row(blank)
    try:
      picture, target = source.picture(index), source.target(index)
    except DataError:
      if not skip:
        raise
      return Row(blank, source.id(index), skipped=True)
    inputs.check(picture.clip, source.id(index))
    geometry = geometry_ops.to_input(picture.clip.shape[1:3], input, view)
    image = inputs.made(picture.clip, geometry)
    return _good(image, picture, target, source.id(index))._replace(place=geometry_ops.place(geometry))

  n_batches = -(-len(source) // batch_size)
  return _backend(backend)(row, range(n_batches * n_rows), n_rows, inputs, n_threads or provenance.n_cores())


def _good(image: np.ndarray, picture: Picture, target: Target, id: str, skipped: bool = False) -> Row:
  n_bytes = -1 if picture.n_bytes is None else picture.n_bytes
  return Row(image, id, target, True, skipped, n_bytes, picture.n_pixels)


# -------------------------------------------------------------------------------------------- training


def train_batches(
  sources: Sequence[Source],
  input: InputSpec,
  view: View,
  recipe: Recipe,
  seed: int,
  *,
  host: int = 0,
  n_hosts: int = 1,
  backend: str = "threads",
  on_bad: str = "error",
  n_threads: int | None = None,
) -> Batches:
  """Endless shuffled batches: a function of start_step, which gives what an uninterrupted run gives from there.

  Of a global batch of `recipe.batch_size` rows, host h yields rows h·B/n to (h+1)·B/n. Epochs follow each other without
  a gap, each example once in each. Order, crop, flip and, with several sources of the same ids (one set at several
  points), the source of an example are pure functions of (seed, epoch, id): leaving examples out changes nothing for
  the others. Batches are as in `eval_batches` and always full. Under on_bad='skip' a picture that is unreadable, or
  whose labels are, gives way to the next readable one in the order, and its row has skipped True; of a mixture whose
  sources lost different pictures, those that all have are drawn.

  Raises:
    DataError: as in `eval_batches`; sources of different ids, under 'skip' of none in common; no readable picture.
    SpecError: a recipe with a size of crops and no crops.
  """
  n_rows = _rows_per_host(recipe.batch_size, n_hosts)
  _check_crops(recipe)
  skip, inputs = _skips(on_bad), Inputs(sources[0], input, view, True, recipe.crop_size)
  ids, places = _common_ids(sources, skip)
  order = Order(ids, seed)
  run = _backend(backend)

  def drawn(position: int) -> tuple[int, Source, int]:
    """(epoch, source, where the example stands in it)."""
    epoch, index = order(position)
    number = hash_of("source", seed, epoch, ids[index]) % len(sources)
    return epoch, sources[number], places[number][index]

  def readable(position: int) -> tuple[int, Picture, Target]:
    """The first position from this one on whose picture and target can be read, with both."""
    for candidate in range(position, position + len(ids)):
      _, source, index = drawn(candidate)
      try:
        return candidate, source.picture(index), source.target(index)
      except DataError as error:
        if not skip:
          raise
        last = error
    raise DataError(f"none of {len(ids)} pictures can be read; the last: {last}")

  def row(local: int) -> Row:
    position = local // n_rows * recipe.batch_size + host * n_rows + local % n_rows
    found, picture, target = readable(position)
    epoch, source, index = drawn(found)
    inputs.check(picture.clip, source.id(index))
    rng = np.random.Generator(np.random.Philox(key=hash_of("augment", seed, epoch, source.id(index))))
    geometry = _augmentation(picture.clip.shape[1:3], rng, inputs.size, input, view, recipe)
    image = inputs.made(picture.clip, geometry)
    if recipe.colour:
      image = colour_ops.distorted(image, rng, recipe.colour)
    target = geometry_ops.moved(target, geometry, geometry_ops.KEPT)
    made = _good(image, picture, target, source.id(index), skipped=found != position)
    return made._replace(place=geometry_ops.still(geometry.crop.size))

  def batches(start_step: int = 0) -> Iterator[Batch]:
    positions = range(start_step * n_rows, 2**62 // n_rows * n_rows)
    return run(row, positions, n_rows, inputs, n_threads or provenance.n_cores())

  return batches


def _check_crops(recipe: Recipe) -> None:
  """Raises SpecError for a size of crops where nothing is cropped."""
  if recipe.crop_size is not None and (recipe.jitter, recipe.crop_zoom, recipe.crop_scale) == (None, None, None):
    raise SpecError(
      f"recipe.crop_size={recipe.crop_size}: this recipe trains on whole pictures; it needs jitter, crop_zoom or "
      "crop_scale, or no crop_size"
    )


def _augmentation(
  size: tuple[int, int], rng: np.random.Generator, to: tuple[int, int], input: InputSpec, view: View, recipe: Recipe
) -> Geometry:
  """A random crop, or the evaluation geometry where the recipe has none; then perhaps a flip."""
  if recipe.jitter is not None:
    geometry = geometry_ops.random_jitter(geometry_ops.to_input(size, input, view), rng, to, recipe.jitter)
  elif recipe.crop_zoom is not None:
    geometry = geometry_ops.random_zoomed_crop(size, rng, to, recipe.crop_zoom)
  elif recipe.crop_scale is not None:
    geometry = geometry_ops.random_resized_crop(size, rng, to, recipe.crop_scale, recipe.crop_ratio)
  else:
    geometry = geometry_ops.to_input(size, input, view)
  return geometry._replace(mirrored=recipe.flip and bool(rng.random() < 0.5))


# -------------------------------------------------------------------------------------------- backends


def _threads(
  row: Callable[[int], Row], positions: range, n_rows: int, inputs: Inputs, n_threads: int
) -> Iterator[Batch]:
  rows = _threaded(row, positions, n_rows, n_threads)
  try:
    yield from _batches(rows, inputs, n_rows)
  finally:  # reached too when the caller stops early and the generator is closed
    rows.close()


def _threaded(
  row: Callable[[int], Row], positions: range, n_rows: int, n_threads: int
) -> Generator[list[Row], None, None]:
  n_ahead = max(AHEAD, -(-2 * n_threads // n_rows))  # small batches must not leave threads idle
  pool = ThreadPoolExecutor(n_threads, "pipeline")
  pending: deque[list[Future[Row]]] = deque()
  try:
    for start in positions[::n_rows]:
      pending.append([pool.submit(row, position) for position in range(start, start + n_rows)])
      if len(pending) > n_ahead:
        yield [future.result() for future in pending.popleft()]
    while pending:
      yield [future.result() for future in pending.popleft()]
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _tf_data(
  row: Callable[[int], Row], positions: range, n_rows: int, inputs: Inputs, n_threads: int
) -> Iterator[Batch]:
  """tf.data carries images of one size; the rest of each row, or its exception, waits beside it in `rows`."""
  import tensorflow as tf

  tf.config.set_visible_devices([], "GPU")  # tensorflow must not take the accelerator's memory from jax
  rows: dict[int, Row | Exception] = {}
  carried = inputs.shape if inputs.canvas else (0,)

  def load(position: np.ndarray) -> np.ndarray:
    try:
      made = row(int(position))
    except Exception as error:  # tf.data would turn it into one of its own, without type and traceback
      rows[int(position)] = error
      return np.zeros(carried, np.uint8)
    if not inputs.canvas:
      rows[int(position)] = made
      return np.zeros(carried, np.uint8)
    rows[int(position)] = made._replace(image=None)
    return np.ascontiguousarray(inputs.padded(made.image, inputs.canvas))

  def load_in_graph(position: Any) -> Any:
    return tf.ensure_shape(tf.numpy_function(load, [position], tf.uint8), carried)

  dataset = tf.data.Dataset.range(positions.start, positions.stop)
  dataset = dataset.map(load_in_graph, num_parallel_calls=n_threads, deterministic=True)
  dataset = dataset.batch(n_rows, drop_remainder=True).prefetch(AHEAD)

  def carried_rows() -> Iterator[list[Row]]:
    for start, images in zip(positions[::n_rows], dataset.as_numpy_iterator(), strict=False):
      made = [rows.pop(position) for position in range(start, start + n_rows)]
      for one in made:
        if isinstance(one, Exception):
          raise one
      yield [one._replace(image=image) for one, image in zip(made, images)] if inputs.canvas else made

  yield from _batches(carried_rows(), inputs, n_rows)


_BACKENDS = {"threads": _threads, "tf.data": _tf_data}


def _backend(name: str) -> Callable[..., Iterator[Batch]]:
  if name not in _BACKENDS:
    raise nearest("pipeline backend", name, _BACKENDS)
  return _BACKENDS[name]


def _batches(rows: Iterator[list[Row]], inputs: Inputs, n_rows: int) -> Iterator[Batch]:
  """As the rows come; where inputs have no one size, those of one canvas together.

  So what a network says of a picture does not hang on the others of its batch: none is padded more than alone.
  """
  if inputs.canvas:
    for group in rows:
      batch = _batch(group, inputs)
      group.clear()  # a batch has copies of its images
      yield batch
    return
  waiting: dict[Size, list[Row]] = {}
  for row in itertools.chain.from_iterable(rows):
    if row.id == "":  # padding at the end
      continue
    canvas = inputs.canvas_of(row.image, row.id)
    waiting.setdefault(canvas, []).append(row)
    if len(waiting[canvas]) == n_rows:
      yield _batch(waiting.pop(canvas), inputs)
  for group in waiting.values():
    yield _batch(group + [Row(inputs.blank)] * (n_rows - len(group)), inputs)


def _batch(rows: Sequence[Row], inputs: Inputs) -> Batch:
  """Rows as arrays."""
  example = next((row.target for row in rows if row.target is not None), inputs.example)
  zeros = {name: np.zeros_like(value) for name, value in example.items()}
  targets = [zeros if row.target is None else row.target for row in rows]
  images = inputs.stacked([row.image for row in rows])
  batch = {
    "image": images,
    "id": np.array([row.id for row in rows]),
    "mask": np.array([row.mask for row in rows]),
    "skipped": np.array([row.skipped for row in rows]),
    "n_bytes": np.array([row.n_bytes for row in rows], np.int64),
    "n_pixels": np.array([row.n_pixels for row in rows], np.int64),
    **{name: inputs.joined(name, [target[name] for target in targets]) for name in example},
  }
  if inputs.placed:
    whole = geometry_ops.still(images.shape[-3:-1])
    batch["place"] = np.stack([whole if row.place is None else row.place for row in rows])
  return batch


# ---------------------------------------------------------------------------------------------- checks


def _rows_per_host(batch_size: int, n_hosts: int) -> int:
  if batch_size < 1 or batch_size % n_hosts:
    raise SpecError(f"batch_size {batch_size} cannot be split over {n_hosts} hosts; expected a multiple of {n_hosts}")
  return batch_size // n_hosts


def _skips(on_bad: str) -> bool:
  if on_bad not in ("error", "skip"):
    raise nearest("policy on_bad", on_bad, ("error", "skip"))
  return on_bad == "skip"


def _common_ids(sources: Sequence[Source], skip: bool) -> tuple[list[str], list[Sequence[int]]]:
  """The ids that all sources have, in the order of the first, and where they stand in each."""
  first, *others = [[source.id(index) for index in range(len(source))] for source in sources]
  if all(ids == first for ids in others):
    return first, [range(len(first))] * len(sources)
  if not skip:
    number, ids = next((number, ids) for number, ids in enumerate(others, 1) if ids != first)
    differ = next((i for i, pair in enumerate(itertools.zip_longest(first, ids)) if pair[0] != pair[1]))
    raise DataError(
      f"sources of a mixture must have the same ids in the same order; source {number} has {len(ids)}, the first "
      f"{len(first)}, and they differ from example {differ} on. Compress the same data for every point"
    )
  places = [{id: index for index, id in enumerate(ids)} for ids in (first, *others)]
  common = [id for id in first if all(id in place for place in places)]
  if not common:
    raise DataError(f"the {len(sources)} sources of a mixture have no id in common; compress the same data for all")
  return common, [[place[id] for id in common] for place in places]
