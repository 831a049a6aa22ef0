"""The verb `compress`: the pictures of a source, coded at a level, in shards on disk.

    Source ──▶ job.code, on all cores, in order ──▶ shard-00000-of-00004.zip, …   write_shards, on every host
                                                    index.npy, manifest.json     finish, on one of them

It may be cut off at any moment: shards appear whole or not at all, and the same call again makes the ones that are not
there. The bytes of a shard depend on its `Plan` alone. Between the two parts, hosts meet at a barrier of the caller's.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from robust_compress import allocator, files, provenance
from robust_compress.ahead import ahead
from robust_compress.data import shards
from robust_compress.data.shards import Manifest, ShardWriter
from robust_compress.job import CHUNK, Item, Job, code, parts
from robust_compress.types import Codec, Source, StoreError


def compress(
  source: Source, codec: Codec, level: float | Sequence[float] | None, directory: os.PathLike[str] | str, *,
  name: str = "", on_bad: str = "error", keep_pixels: bool = False, shard_size: int = 500, bpp: float | None = None,
  n_workers: int | None = None, progress: bool = True, verify: bool = False, replace: bool = False,
) -> Manifest:  # fmt: skip
  """Codes every picture of `source` once, on one host; what already stands in `directory` is not coded again.

  Args are those of `Job` and `write_shards`. Memory holds the pictures in work and never the set.

  Raises:
    DataError, CodecError: a picture that cannot be read or coded, under on_bad='error'; whole shards stay.
    StoreError: a full disk, or shards of another source, codec or level in `directory` (both shown).
  """
  job = Job(source, codec, level, directory, name, on_bad, keep_pixels, shard_size, bpp)
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
  allocator.keep_freed_memory()  # frames come and go by the megabyte
  n_workers = n_workers or provenance.n_cores()
  chunk = CHUNK if job.codec.batched else min(CHUNK, 1 + len(job.source) // (4 * n_workers))
  n_missing = sum(len(job.plan.positions(shard)) for shard in missing)
  work = ((part,) for shard in missing for part in parts(job.plan.positions(shard), chunk))
  with (
    ThreadPoolExecutor(n_workers, "compress") as pool,
    closing(ahead(pool, functools.partial(code, job), work, 2 * n_workers)) as results,
    tqdm(total=n_done + n_missing, initial=n_done, desc=job.name, unit=" pictures", disable=not progress) as bar,
  ):
    for shard in missing:
      _write_shard(job, shard, itertools.islice(results, len(parts(job.plan.positions(shard), chunk))), bar)


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
  totals = _join_indexes(job, names)
  digests[shards.INDEX] = shards.file_digest(job.path(shards.INDEX))
  if job.bpp is not None:
    with files.replacing(job.path(shards.LEVELS)) as file:
      shards.write_joined(file, np.dtype(np.float64), (shards.levels_of(job.path(name)) for name in names))
    digests[shards.LEVELS] = shards.file_digest(job.path(shards.LEVELS))
  manifest = Manifest(job.plan, job.name, totals.n, totals.n_bytes, totals.n_pixels, tuple(totals.skipped), digests)
  files.write_atomic(job.path(shards.MANIFEST), manifest.to_json().encode())
  return manifest


@dataclass
class _Totals:
  n: int = 0
  n_bytes: int = 0
  n_pixels: int = 0
  skipped: list[tuple[str, str]] = field(default_factory=list)


def _join_indexes(job: Job, names: Sequence[str]) -> _Totals:
  """Writes the index of all shards, of which one is in memory at a time, and counts what they hold."""
  totals = _Totals()

  def indexes() -> Iterator[np.ndarray]:
    for name in names:
      _, entries, skipped = shards.read_shard(job.path(name))
      totals.n += len(entries)
      totals.n_bytes += int(entries["n_bytes"].sum())
      totals.n_pixels += int(entries["n_pixels"].sum())
      totals.skipped += skipped
      yield entries

  with files.replacing(job.path(shards.INDEX)) as file:
    shards.write_joined(file, shards.ENTRY, indexes())
  return totals


# -------------------------------------------------------------------------------------- what stands already


def _check_folder(job: Job, replace: bool) -> None:
  """Refuses, or clears, a folder that holds another plan's shards."""
  found = shards.standing_plan(job.directory)
  if found in (None, job.plan):
    return
  if not replace:
    found.check_same(job.plan, job.directory)
  job.path(shards.MANIFEST).unlink(missing_ok=True)  # first: without it nothing promises the rest
  for path in sorted(Path(job.directory).glob("shard-*.zip")):
    if shards.plan_of(path) != job.plan:  # other hosts may have begun with the new ones
      path.unlink(missing_ok=True)


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


# ----------------------------------------------------------------------------------------- blobs to shards


def _write_shard(job: Job, shard: int, results: Iterable[list[Item]], bar: tqdm) -> None:
  path = job.path(job.plan.shard_name(shard))
  with files.replacing(path) as file, ShardWriter(file, job.plan, job.codec.name) as writer:
    for items in results:
      for position, reason, *content in items:
        if reason:
          writer.skip(job.source.id(position), reason)
        else:
          writer.add(position, job.source.id(position), *content)
      bar.update(len(items))
