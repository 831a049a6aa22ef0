"""What is to be coded, and what a worker makes of a few pictures of it.

    Source ──picture──▶ clip ──Codec.encode at a level────────▶ blob ──▶ Item
                          └──── … until the rate is met, and the nearest is kept ──▲

`compress.py` runs workers and writes what they make; nothing here touches the disk.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from robust_compress import provenance, rate
from robust_compress.codecs import check_level, ladder
from robust_compress.data import shards
from robust_compress.data.shards import Plan
from robust_compress.specs import format_number, key_of
from robust_compress.types import Clip, Codec, CodecError, Coded, DataError, LevelError, Source, SpecError

CHUNK = 16  # pictures that a worker takes at a time; a batched codec gets those of one shape together


@dataclass(frozen=True)
class Job:
  """What to code, how, and where to.

  Args:
    source: read by many threads at once.
    codec: with its options.
    level: one for all pictures, or float[n], one for each; None where `bpp` says what is wanted.
    directory: of this job's own; made where it is not there.
    name: of the point, for the progress bar and the manifest.
    on_bad: 'error' stops at a picture that cannot be read or coded; 'skip' leaves it out, and the manifest says so.
    keep_pixels: store what the codec decodes to as well, lossless; for codecs whose decoding costs a network.
    shard_size: pictures a shard, the unit in which a cut-off run goes on.
    bpp: a rate that every picture is to come as near to as it can, by a level of its own; float[n]: one for each.

  Raises:
    LevelError: a level that the codec does not take, or another number of levels or rates than pictures.
  """

  source: Source
  codec: Codec
  level: float | Sequence[float] | np.ndarray | None
  directory: os.PathLike[str] | str
  name: str = ""
  on_bad: str = "error"
  keep_pixels: bool = False
  shard_size: int = 500
  bpp: float | Sequence[float] | np.ndarray | None = None

  def __post_init__(self) -> None:
    if self.on_bad not in ("error", "skip"):
      raise SpecError(f"on_bad={self.on_bad!r}; expected 'error' or 'skip'")
    both = self.level is not None and self.bpp is not None
    wanted = self.level if self.bpp is None else self.bpp
    if both or np.shape(wanted) not in ((), (len(self.source),)):
      kind = "levels and a rate" if both else "levels" if self.bpp is None else "rates"
      given = f"{np.size(self.level if both else wanted)} {kind} for {len(self.source)} pictures"
      raise LevelError(f"{given}; expected one, or one for each, or a rate to meet")
    for level in np.unique(self.level).tolist() if self.bpp is None else ():
      check_level(self.codec, level)

  @functools.cached_property
  def levels(self) -> np.ndarray:
    return np.broadcast_to(np.asarray(self.level, np.float64), (len(self.source),))

  @functools.cached_property
  def bpps(self) -> np.ndarray:
    return np.broadcast_to(np.asarray(self.bpp, np.float64), (len(self.source),))

  @functools.cached_property
  def plan(self) -> Plan:
    if self.bpp is not None:
      target = f"rates {key_of(self.bpps.tolist())}" if np.ndim(self.bpp) else f"{format_number(self.bpp)} bpp"
      level = f"per picture nearest to {target}, search {rate.SEARCH_VERSION}"
    else:
      level = f"per picture {key_of(self.levels.tolist())}" if np.ndim(self.level) else float(self.level)
    fingerprints = self.source.fingerprint(), self.codec.fingerprint()
    return Plan(*fingerprints, level, len(self.source), self.shard_size, self.keep_pixels)

  def path(self, name: str) -> Path:
    return Path(self.directory) / name


class Item(NamedTuple):
  """What a worker made of one picture: a blob, or the reason why there is none."""

  position: int
  reason: str = ""
  blob: bytes = b""
  pixels: bytes = b""
  n_frames: int = 0
  n_pixels: int = 0
  level: float | None = None  # that was found for it, where it has one of its own to meet a rate


def code(job: Job, positions: Sequence[int]) -> list[Item]:
  """Reads and codes a few pictures, in a worker thread.

  Raises:
    DataError, CodecError: a picture that cannot be read or coded, named, under on_bad='error'.
  """
  items: list[Item] = []
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


def _encode(job: Job, batch: list[tuple[int, Clip]]) -> list[Item]:
  positions, clips = zip(*batch)
  try:
    if job.bpp is None:
      options = {"reconstruct": True} if job.keep_pixels and getattr(job.codec, "reconstructs", False) else {}
      coded = job.codec.encode(clips, [float(job.levels[position]) for position in positions], **options)
      found = [(one, None) for one in coded]
    else:
      found = _encode_nearest(job.codec, clips, [float(job.bpps[position]) for position in positions])
  except CodecError as error:
    if len(batch) == 1:
      return [_bad(job, positions[0], error)]
    return [item for one in batch for item in _encode(job, [one])]  # which one it was
  return [
    Item(position, "", one.blob, _pixels(job, one), len(clip), clip[..., 0].size, level)
    for position, clip, (one, level) in zip(positions, clips, found)
  ]


def _encode_nearest(codec: Codec, clips: Sequence[Clip], bpps: Sequence[float]) -> list[tuple[Coded, float]]:
  """Each clip at the level whose rate is nearest to its own, coded once a level; all clips take a step in one call."""
  levels, continuous = ladder(codec)
  searches = [rate.steps(levels, bpp, continuous=continuous) for bpp in bpps]
  tried: list[dict[float, Coded]] = [{} for _ in clips]
  asked, found = {i: next(search) for i, search in enumerate(searches)}, {}
  while asked:
    coded = codec.encode([clips[i] for i in asked], list(map(float, asked.values())))
    for (i, level), one in zip(list(asked.items()), coded, strict=True):
      tried[i][level] = one
      try:
        asked[i] = searches[i].send(8 * len(one.blob) / clips[i][..., 0].size)
      except StopIteration as end:
        del asked[i]
        found[i] = tried[i][end.value.level], float(end.value.level)
        tried[i].clear()
  return [found[i] for i in range(len(clips))]


def _pixels(job: Job, coded: Coded) -> bytes:
  if not job.keep_pixels:
    return b""
  return shards.pack_pixels(job.codec.decode([coded.blob])[0] if coded.pixels is None else coded.pixels)


def _bad(job: Job, position: int, error: DataError | CodecError) -> Item:
  picture = job.source.id(position)
  if job.on_bad == "skip":
    return Item(position, str(error) or repr(error))
  raise type(error)(f"picture {picture!r}: {error} (on_bad=skip leaves such pictures out)") from error


def parts(positions: Sequence[int], size: int) -> list[Sequence[int]]:
  return [positions[start : start + size] for start in range(0, len(positions), size)]


def sampled_rate(job: Job, positions: Sequence[int], n_workers: int | None = None) -> float:
  """Bits per pixel of some of the pictures, coded on all cores and not kept.

  Raises:
    DataError: none of them can be read and coded; under on_bad='error', one of them, as CodecError may be too.
  """

  def spent(part: Sequence[int]) -> tuple[int, int]:
    items = code(job, part)
    return sum(len(item.blob) for item in items), sum(item.n_pixels for item in items)

  size = CHUNK if job.codec.batched else 1
  work = parts(positions, size)
  with ThreadPoolExecutor(n_workers or provenance.n_cores(), "sample") as pool:
    made = tqdm(pool.map(spent, work), f"sample of {job.name}", len(work), leave=False)
    n_bytes, n_pixels = (sum(column) for column in zip(*made))
  if not n_pixels:
    raise DataError(f"{job.name}: none of {len(positions)} pictures tried can be read and coded")
  return 8 * n_bytes / n_pixels
