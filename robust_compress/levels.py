"""The levels that stand for target rates: sought on a sample of the test data, verified on all of it, and kept.

    'bpg@0.1bpp' ──sample──▶ bpg@38 ──all──▶ its rate ──another is nearer?──▶ bpg@39 ──all──▶ … ──▶ levels/<key>.json
    'bpg(per_image=True)@0.1bpp' ──▶ a level a picture, found while it is coded (`job.py`); here, whether it can be

What was found on the test data holds for the training data too. Pictures at 'bpg@0.1bpp' are then those at 'bpg@39',
coded once for both. The sample is 200 pictures, the same on every host. A file of this folder is of one codec: what its
levels cost over the sample, which serves all target rates, and what was found for each.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from robust_compress import codecs, specs
from robust_compress.files import write_atomic
from robust_compress.job import Job, sampled_rate
from robust_compress.rate import SEARCH_VERSION, TOLERANCE, Resolved, search_all, search_level
from robust_compress.types import CodecError, DataError, Point, Source

SAMPLE = 200  # pictures on which a level is sought


class Found(NamedTuple):
  """What stands for a target rate on the test data."""

  level: float | None  # None: every picture has its own
  bpp: float  # over all pictures; over the sample where it is out of reach
  reachable: bool
  reach: tuple[float, float] | None = None  # bpp at both ends of the ladder over the sample, where it is out of reach


class Levels:
  """Finds levels for the target rates of one study, and keeps them in its workdir.

  Args:
    config: of the study.
    workdir: its folder.
    source: opens a data set as the codec sees it.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path, source: Callable[[str], Source]):
    self.config, self.workdir, self.source = config, workdir, source
    self._own: dict[pathlib.Path, dict[str, Any]] = {}  # what each file had: another host may write over it

  def coded_as(self, point: Point) -> Point | None:
    """The point at which the pictures are coded that stand for `point`: 'bpg@39' for 'bpg@0.1bpp'.

    None for a rate that is out of reach, or whose level is not found yet.
    """
    if point.bpp is None:
      return point
    found = self.found(point)
    if found is not None and not found.reachable:
      return None
    return point if point.per_image else None if found is None else _at(point, found.level)

  def found(self, point: Point) -> Found | None:
    """What `settle` found, if it did, and if data and codec are still those on which it was found."""
    found = None if point.bpp is None else self._kept(point).get("found", {}).get(str(point))
    return None if found is None else Found(**{**found, "reach": found["reach"] and tuple(found["reach"])})

  def settle(self, point: Point, whole: Callable[[Point], float]) -> Found:
    """Finds what stands for a target rate, unless it is known.

    `whole` codes all test pictures at a point and gives their rate; hosts that share the work call it alike. It is not
    called for a rate that the sample shows to be far out of reach.
    """
    found = self.found(point)
    if found is None:
      found = self._settle(point, whole)
      self._keep(point, "found", {str(point): found._asdict()})
    return found

  def sought(self, point: Point) -> Found:
    """What stands for a target rate as far as the sample tells. For plans: nothing but the sample is coded."""
    found = self.found(point)
    if found is not None:
      return found
    if point.per_image:
      return self._between_ends(point)
    levels, continuous = codecs.ladder(codecs.load_codec(point))
    return self._as_found(point, search_level(self._sampled(point), levels, point.bpp, continuous=continuous))

  def notice(self, point: Point) -> str:
    """For people: which rates can be reached where this one cannot; '' where it can, as far as is known."""
    found = self.found(point)
    return "" if found is None or found.reachable else reach_text(point, found)

  def fingerprint(self, point: Point) -> str:
    """Of a point's codec, and of the level that stands for a target rate, once it is known."""
    codec = codecs.load_codec(point).fingerprint()
    if point.per_image:
      return f"{codec} at a level a picture, search {SEARCH_VERSION}"
    found = self.found(point)
    return codec if found is None else f"{codec} at level {found.level:g}"

  # ---------------------------------------------------------------------------------------------- the search

  def _settle(self, point: Point, whole: Callable[[Point], float]) -> Found:
    if point.per_image:
      found = self._between_ends(point)
      return found._replace(bpp=whole(point)) if found.reachable else found
    levels, continuous = codecs.ladder(codecs.load_codec(point))
    resolved = search_all(
      self._sampled(point), lambda level: whole(_at(point, level)), levels, point.bpp, continuous=continuous
    )
    return self._as_found(point, resolved)

  def _as_found(self, point: Point, resolved: Resolved) -> Found:
    reach = None if resolved.reachable else self._reach(point)
    return Found(resolved.level, resolved.bpp, resolved.reachable, reach)

  def _between_ends(self, point: Point) -> Found:
    """Pictures of their own levels can meet a rate on average where the ends of the ladder lie on both sides of it."""
    low, high = reach = self._reach(point)
    reachable = low * (1 - TOLERANCE) <= point.bpp <= high * (1 + TOLERANCE)
    nearest = min(max(point.bpp, low), high)
    return Found(None, nearest, reachable, None if reachable else reach)

  def _reach(self, point: Point) -> tuple[float, float]:
    sampled, (levels, _) = self._sampled(point), codecs.ladder(codecs.load_codec(point))
    return sampled(levels[0]), sampled(levels[-1])

  def _sampled(self, point: Point) -> Callable[[float], float]:
    """level -> bits per pixel over the sample; each level is coded once, and its rate kept."""
    known = {float(level): bpp for level, bpp in self._kept(point).get("sample", {}).items()}

    def sampled(level: float) -> float:
      if level not in known:
        source, codec = self.source(self.config.test_data), codecs.load_codec(point)
        sample = np.random.default_rng(0).permutation(len(source))[:SAMPLE].tolist()
        job = Job(source, codec, level, "", f"{self.config.test_data} at {_at(point, level)}", self.config.on_bad)
        known[level] = sampled_rate(job, sorted(sample), self.config.n_workers or None)
        self._keep(point, "sample", {specs.format_number(level): bpp for level, bpp in known.items()})
      return known[level]

    return sampled

  # ---------------------------------------------------------------------------------------------- what is kept

  def _kept(self, point: Point) -> dict[str, Any]:
    """What lies in the workdir, which has the last word, or lay there; nothing that was found on other data or by
    another codec."""
    path = self._path(point)
    kept = json.loads(path.read_text()) if path.exists() else {}
    try:
      if any(kept.get(name) != value for name, value in (self._conditions(point) if kept else {}).items()):
        return {}
    except (DataError, CodecError):
      pass  # a report is drawn without the data and the codec: what was found then stands
    return {**kept, **{name: {**own, **kept.get(name, {})} for name, own in self._own.get(path, {}).items()}}

  def _keep(self, point: Point, name: str, entries: dict[str, Any]) -> None:
    """Adds to what is kept. Hosts write the same, each all that it knows, so none can take from another for long."""
    path, kept = self._path(point), self._kept(point)
    kept[name] = {**kept.get(name, {}), **entries}
    self._own.setdefault(path, {})[name] = kept[name]
    write_atomic(path, json.dumps({**self._conditions(point), **kept}, indent=1, sort_keys=True).encode())

  def _conditions(self, point: Point) -> dict[str, Any]:
    return {"source": self._source, "codec": codecs.load_codec(point).fingerprint(), "search": SEARCH_VERSION}

  @functools.cached_property
  def _source(self) -> str:
    return self.source(self.config.test_data).fingerprint()

  def _path(self, point: Point) -> pathlib.Path:
    data = specs.parse_data(self.config.test_data)
    seen = specs.format_data(dataclasses.replace(data, view=data.view.seen))
    codec = specs.format_call(point.codec, [option for option in point.options if option[0] != "per_image"])
    return self.workdir / "levels" / f"{specs.key_of([seen, codec])}.json"


def _at(point: Point, level: float | None) -> Point:
  return dataclasses.replace(point, level=float(level), bpp=None)


def reach_text(point: Point, found: Found) -> str:
  """'jpeg@0.1bpp is out of reach: on these pictures jpeg gives 0.38 to 9.2 bpp'."""
  low, high = (f"{bpp:.3g}" for bpp in found.reach)
  return f"{point} is out of reach: on these pictures {point.codec} gives {low} to {high} bpp"
