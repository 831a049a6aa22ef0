"""The pictures of a study, as they are and as codecs leave them: opened once, and where in the workdir they lie.

    Data ──open_source──▶ view ──▶ Source ──(point)──▶ coded/<codec>-<key>/ ──▶ Source of decoded pictures

A point at a target rate is coded at the level that stands for it (`levels.py`), in the folder of that level.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from robust_compress import codecs, specs
from robust_compress.data import cache, catalogue, shards, sources
from robust_compress.job import Job
from robust_compress.levels import Levels
from robust_compress.rate import TOLERANCE
from robust_compress.types import NONE, DataError, Point, Source, StoreError

SAMPLE = 4  # pictures by which the size of the rest is judged
DISK_SHARE = 0.1  # of the disk, that the pixels of one data set at one point may take


class Pictures:
  """Opens data sets, and what is coded of them. Nothing here codes a data set.

  Args:
    config: of the study.
    workdir: its folder.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path):
    self.config, self.workdir, self.data_dir = config, workdir, pathlib.Path(config.data_dir)
    self.levels = Levels(config, workdir, self.source)
    self._sources: dict[tuple[str, Point], Source] = {}

  def source(self, data: str, point: Point = NONE) -> Source:
    """What the codec sees of `data`, or the same coded at `point`; raises StoreError where it is not coded yet."""
    coded, parsed = self._coded_as(point), specs.parse_data(data)
    key = (_seen(data), coded)
    if key not in self._sources:
      if coded == NONE:
        opened = sources.ViewedSource(sources.open_source(parsed, self.data_dir), parsed.view)
      else:
        opened = cache.CodedSource(self.source(data), self.folder(data, coded), codecs.load_codec(coded))
      self._sources[key] = opened
    return self._sources[key]

  def n_examples(self, data: str) -> int | None:
    """Without its publisher's count a data set is opened; None where it is not on this machine."""
    n = catalogue.n_published(specs.parse_data(data))
    if n is not None:
      return n
    try:
      return len(self.source(data))
    except DataError:
      return None

  # ------------------------------------------------------------------------------------------ coded pictures

  def folder(self, data: str, point: Point) -> pathlib.Path:
    """Where the pictures lie that are coded at `point`; those of a target rate lie at the level that stands for it.

    Shards do not depend on how a model is fed, nor on which study asks: only on the pictures and the point.
    """
    coded = self._coded_as(point)
    return self.workdir / "coded" / f"{coded.codec}-{specs.key_of([_seen(data), str(coded)])}"

  def is_coded(self, data: str, point: Point) -> bool:
    known = self.levels.coded_as(point) is not None
    return known and shards.read_manifest(self.folder(data, point)) is not None

  def job(self, data: str, point: Point) -> Job:
    """What `compress` is to do for `data` at `point`."""
    coded = self._coded_as(point)
    source, codec, folder = self.source(data), codecs.load_codec(coded), self.folder(data, coded)
    keep = self.keeps_pixels(data, coded)
    return Job(source, codec, coded.level, folder, str(coded), self.config.on_bad, keep, bpp=coded.bpp)

  def keeps_pixels(self, data: str, point: Point) -> bool:
    """Whether lossless pixels are stored beside the blobs: decoding costs a network, and the disk has room.

    What is coded already has decided it: a workdir may move to another disk.
    """
    if not getattr(codecs.load_codec(point), "reconstructs", False):
      return False
    known = self.levels.coded_as(point) is not None
    standing = shards.standing_plan(self.folder(data, point)) if known else None
    return _fits(self.source(data), self.workdir) if standing is None else standing.keep_pixels

  def achieved(self, data: str, point: Point) -> dict[str, Any]:
    """How pictures that were coded at a target rate meet it, for their rows.

    `bpp` and `miss` are of all of them together; `share_off` of them miss it by over 5 % each. `levels` has the lowest,
    the median and the highest that were used.
    """
    source = self.source(data, point)
    bpps = 8.0 * source.index["n_bytes"] / source.index["n_pixels"]
    bpp = 8.0 * float(source.index["n_bytes"].sum()) / float(source.index["n_pixels"].sum())
    return {
      "asked": point.bpp,
      "bpp": bpp,
      "miss": bpp / point.bpp - 1,
      "share_off": float((np.abs(bpps / point.bpp - 1) > TOLERANCE).mean()),
      "levels": [float(x) for x in np.quantile(source.levels, [0, 0.5, 1], method="nearest")],
    }

  def _coded_as(self, point: Point) -> Point:
    coded = self.levels.coded_as(point)
    if coded is None:
      raise StoreError(self.levels.notice(point) or f"{point}: no level is known yet that meets it; run compress first")
    return coded


def job_of(config: ConfigDict, workdir: pathlib.Path, data: str, point: Point) -> Job:
  """`Pictures.job` of a study that is not open here: what a worker of a cluster is told."""
  return Pictures(config, workdir).job(data, point)


def _fits(source: Source, workdir: pathlib.Path) -> bool:
  """Whether the lossless pixels of a source take no more than a share of the whole disk, going by a few pictures.

  Not of what is free now: a run that goes on, or another host, must decide as the first one did.
  """
  folder = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
  sizes = []
  for index in range(0, len(source), max(1, len(source) // SAMPLE)):
    with contextlib.suppress(DataError):  # told, or skipped, when it is to be coded
      sizes.append(source.picture(index).clip.nbytes)
  return bool(np.mean(sizes or [0]) * len(source) <= DISK_SHARE * shutil.disk_usage(folder).total)


def _seen(data: str) -> str:
  """The data as the codec sees it: without how a model is fed from it."""
  parsed = specs.parse_data(data)
  return specs.format_data(dataclasses.replace(parsed, view=parsed.view.seen))
