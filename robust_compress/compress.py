"""The verb `compress`: the pictures of a source, coded at a level, in shards on disk.

    Source ──picture──▶ clip ──Codec.encode──▶ blob ──▶ shard-00000-of-00004.zip, …   write_shards, on every host
                └──────── all cores, in order ───────┘              index.npy, manifest.json   finish, on one of them

It may be cut off at any moment: shards appear whole or not at all, and the same call again makes the ones that are not
there. The bytes of a shard depend on its `Plan` alone. Between the two parts, hosts meet at a barrier of the caller's.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from robust_compress import files, provenance
from robust_compress.codecs import check_level
from robust_compress.data import shards
from robust_compress.data.shards import Manifest, Plan, ShardWriter
from robust_compress.specs import key_of
from robust_compress.types import Clip, Codec, CodecError, Coded, DataError, LevelError, Source, SpecError, StoreError

CHUNK = 16  # pictures that a worker takes at a time; a batched codec gets those of one shape together


@dataclass(frozen=True)
class Job:
  """What to code, how, and where to.

  Args:
    source: read by many threads at once.
    codec: with its options.
    level: one for all pictures, or float[n], one for each.
    directory: of this job's own; made where it is not there.
    name: of the point, for the progress bar and the manifest.
    on_bad: 'error' stops at a picture that cannot be read or coded; 'skip' leaves it out, and the manifest says so.
    keep_pixels: store what the codec decodes to as well, lossless; for codecs whose decoding costs a network.
    shard_size: pictures a shard, the unit in which a cut-off run goes on.

  Raises:
    LevelError: a level that the codec does not take, or another number of levels than pictures.
  """

  source: Source
  codec: Codec
  level: float | Sequence[float] | np.ndarray
  directory: os.PathLike[str] | str
  name: str = ""
  on_bad: str = "error"
  keep_pixels: bool = False
  shard_size: int = 500

  def __post_init__(self) -> None:
    if self.on_bad not in ("error", "skip"):
      raise SpecError(f"on_bad={self.on_bad!r}; expected 'error' or 'skip'")
    if np.shape(self.level) not in ((), (len(self.source),)):
      raise LevelError(f"{len(self.level)} levels for {len(self.source)} pictures; expected one, or one for each")
    for level in np.unique(self.level).tolist():
      check_level(self.codec, level)

  @functools.cached_property
  def levels(self) -> np.ndarray:
    return np.broadcast_to(np.asarray(self.level, np.float64), (len(self.source),))

  @functools.cached_property
  def plan(self) -> Plan:
    level = f"per picture {key_of(self.levels.tolist())}" if np.ndim(self.level) else float(self.level)
    fingerprints = self.source.fingerprint(), self.codec.fingerprint()
    return Plan(*fingerprints, level, len(self.source), self.shard_size, self.keep_pixels)

  def path(self, name: str) -> Path:
    return Path(self.directory) / name


def compress(
  source: Source, codec: Codec, level: float | Sequence[float], directory: os.PathLike[str] | str, *,
  name: str = "", on_bad: str = "error", keep_pixels: bool = False, shard_size: int = 500,
  n_workers: int | None = None, progress: bool = True, verify: bool = False, replace: bool = False,
) -> Manifest:  # fmt: skip
  """Codes every picture of `source` once, on one host; what already stands in `directory` is not coded again.

  Args are those of `Job` and `write_shards`. Memory holds the pictures in work and never the set.

  Raises:
    DataError, CodecError: a picture that cannot be read or coded, under on_bad='error'; whole shards stay.
    StoreError: a full disk, or shards of another source, codec or level in `directory` (both shown).
  """
  job = Job(source, codec, level, directory, name, on_bad, keep_pixels, shard_size)
  write_shards(job, n_workers=n_workers, progress=progress, verify=verify, replace=replace)
  return finish(job)


def write_shards(
  job: Job, *, host: int = 0, n_hosts: int = 1,
  n_workers: int | None = None, progress: bool = True, verify: bool = False, replace: bool = False,
) -> None:  # fmt: skip
  """Makes the missing ones of the shards host, host + n_hosts, …

  Args:
    job: the same on every host.
    host: index of this host.
    n_hosts: that share the work, and the folder.
    n_workers: threads; by default as many as this process has cores.
    progress: whether to show a bar.
    verify: read what stands and make damaged shards again, instead of trusting sizes.
    replace: put away shards of another plan, instead of refusing.
  """
  mine = range(host, job.plan.n_shards, n_hosts)
  missing = missing_shards(job, mine, verify=verify, replace=replace)
  n_done = sum(len(job.plan.positions(shard)) for shard in set(mine) - set(missing))
  code_shards(job, missing, n_workers=n_workers, progress=progress, n_done=n_done)


def missing_shards(job: Job, of: Sequence[int], *, verify: bool = False, replace: bool = False) -> list[int]:
  """Which of these shards are to be made. Clears what is in their way: a manifest, and what killed processes left."""
  _check_folder(job, replace)
  manifest = shards.read_manifest(job.directory)
  missing = [shard for shard in of if not _stands(job, shard, manifest, verify)]
  if missing:
    job.path(shards.MANIFEST).unlink(missing_ok=True)  # it promises that all shards stand
    files.clean(job.directory)
  return missing


def code_shards(
  job: Job, missing: Sequence[int], *, n_workers: int | None = None, progress: bool = True, n_done: int = 0
) -> None:
  """Makes these shards, one after another; `n_done` pictures are said to be done already."""
  if not missing:
    return
  n_workers = n_workers or provenance.n_cores()
  chunk = CHUNK if job.codec.batched else min(CHUNK, 1 + len(job.source) // (4 * n_workers))
  n_missing = sum(len(job.plan.positions(shard)) for shard in missing)
  work = (part for shard in missing for part in _parts(job.plan.positions(shard), chunk))
  with (
    ThreadPoolExecutor(n_workers, "compress") as pool,
    closing(_ahead(pool, functools.partial(_code, job), work, 2 * n_workers)) as results,
    tqdm(total=n_done + n_missing, initial=n_done, desc=job.name, unit=" pictures", disable=not progress) as bar,
  ):
    for shard in missing:
      _write_shard(job, shard, itertools.islice(results, len(_parts(job.plan.positions(shard), chunk))), bar)


def finish(job: Job) -> Manifest:
  """Joins the shards of all hosts to one set. Raises StoreError where shards are missing."""
  manifest = shards.read_manifest(job.directory)
  if manifest is not None:
    return manifest
  files.clean(job.directory)
  names = [job.plan.shard_name(shard) for shard in range(job.plan.n_shards)]
  missing = [name for name in names if not job.path(name).exists()]
  if missing:
    raise StoreError(
      f"{job.directory}: {len(missing)} of {len(names)} shards are missing, {missing[0]} first; run compress again"
    )
  with ThreadPoolExecutor() as pool:  # hashing releases the GIL
    digests = dict(zip(names, pool.map(lambda name: shards.file_digest(job.path(name)), names)))
  contents = [shards.read_shard(job.path(name)) for name in names]
  index = np.concatenate([np.empty(0, shards.ENTRY), *(entries for _, entries, _ in contents)])
  files.write_atomic(job.path(shards.INDEX), shards.npy(index))
  digests[shards.INDEX] = shards.file_digest(job.path(shards.INDEX))
  skipped = tuple(itertools.chain.from_iterable(skipped for _, _, skipped in contents))
  totals = len(index), int(index["n_bytes"].sum()), int(index["n_pixels"].sum())
  manifest = Manifest(job.plan, job.name, *totals, skipped, digests)
  files.write_atomic(job.path(shards.MANIFEST), manifest.to_json().encode())
  return manifest


# -------------------------------------------------------------------------------------- what stands already


def _check_folder(job: Job, replace: bool) -> None:
  """Refuses, or clears, a folder that holds another plan's shards."""
  manifest, paths = shards.read_manifest(job.directory), sorted(Path(job.directory).glob("shard-*.zip"))
  found = manifest.plan if manifest else next(filter(None, map(_plan_of, paths)), job.plan)
  if found == job.plan:
    return
  if not replace:
    found.check_same(job.plan, job.directory)
  job.path(shards.MANIFEST).unlink(missing_ok=True)  # first: without it nothing promises the rest
  for path in paths:
    if _plan_of(path) != job.plan:  # other hosts may have begun with the new ones
      path.unlink(missing_ok=True)


def _plan_of(path: Path) -> Plan | None:
  try:
    return shards.read_shard(path)[0]
  except StoreError:
    return None


def _stands(job: Job, shard: int, manifest: Manifest | None, verify: bool) -> bool:
  """Whether a shard is there, whole, and as the job wants it. Without a manifest it is opened to see."""
  name = job.plan.shard_name(shard)
  if not job.path(name).exists():
    return False
  if manifest is not None and not (manifest.skipped and job.on_bad == "error"):
    n_bytes, _ = manifest.files[name]
    return job.path(name).stat().st_size == n_bytes and (
      not verify or shards.file_digest(job.path(name)) == manifest.files[name]
    )
  try:
    plan, _, skipped = shards.read_shard(job.path(name))
  except StoreError:
    return False
  whole = not verify or shards.is_whole(job.path(name))
  return whole and plan == job.plan and not (skipped and job.on_bad == "error")


# --------------------------------------------------------------------------------------- pictures to blobs


class _Item(NamedTuple):
  """What a worker made of one picture: a blob, or the reason why there is none."""

  position: int
  reason: str = ""
  blob: bytes = b""
  pixels: bytes = b""
  n_frames: int = 0
  n_pixels: int = 0


def _code(job: Job, positions: Sequence[int]) -> list[_Item]:
  """Reads and codes a few pictures, in a worker thread."""
  items: list[_Item] = []
  batches: dict[tuple[int, ...], list[tuple[int, Clip]]] = {}
  for position in positions:
    try:
      clip = job.source.picture(position).clip
    except DataError as error:
      items.append(_bad(job, position, error))
      continue
    if job.codec.batched:
      batches.setdefault(clip.shape, []).append((position, clip))
    else:
      items += _encode(job, [(position, clip)])
  for batch in batches.values():
    items += _encode(job, batch)
  return sorted(items)


def _encode(job: Job, batch: list[tuple[int, Clip]]) -> list[_Item]:
  positions, clips = zip(*batch)
  try:
    coded = job.codec.encode(clips, [float(job.levels[position]) for position in positions])
  except CodecError as error:
    if len(batch) == 1:
      return [_bad(job, positions[0], error)]
    return [item for one in batch for item in _encode(job, [one])]  # which one it was
  return [
    _Item(position, "", one.blob, _pixels(job, one), len(clip), clip[..., 0].size)
    for position, clip, one in zip(positions, clips, coded)
  ]


def _pixels(job: Job, coded: Coded) -> bytes:
  if not job.keep_pixels:
    return b""
  return shards.pack_pixels(job.codec.decode([coded.blob])[0] if coded.pixels is None else coded.pixels)


def _bad(job: Job, position: int, error: DataError | CodecError) -> _Item:
  picture = job.source.id(position)
  if job.on_bad == "skip":
    return _Item(position, str(error) or repr(error))
  raise type(error)(f"picture {picture!r}: {error} (on_bad=skip leaves such pictures out)") from error


def _parts(positions: range, size: int) -> list[range]:
  return [positions[start : start + size] for start in range(0, len(positions), size)]


def _ahead(
  pool: Executor, function: Callable[[range], list[_Item]], parts: Iterable[range], n_ahead: int
) -> Iterator[list[_Item]]:
  """Results in the order of `parts`, of which at most `n_ahead` are in work or waiting."""
  pending: deque[Future[list[_Item]]] = deque()
  try:
    for part in parts:
      if len(pending) == n_ahead:
        yield pending.popleft().result()
      pending.append(pool.submit(function, part))
    while pending:
      yield pending.popleft().result()
  finally:
    for future in pending:
      future.cancel()


def _write_shard(job: Job, shard: int, results: Iterable[list[_Item]], bar: tqdm) -> None:
  path = job.path(job.plan.shard_name(shard))
  with files.replacing(path) as file, ShardWriter(file, job.plan, job.codec.name) as writer:
    for items in results:
      for position, reason, *content in items:
        if reason:
          writer.skip(job.source.id(position), reason)
        else:
          writer.add(position, job.source.id(position), *content)
      bar.update(len(items))
