"""`robust-compress rd`: rate and distortion of any codecs on any pictures.

    Source ──picture──▶ clip ──encode──▶ blob ──decode──▶ clip'      all cores, in order, a bounded number at once
                         └──── bytes, MSE, MS-SSIM, seconds ──Log──▶ one Curve a codec ──▶ tables, figure

Every blob is decoded again: what is measured is what a receiver has. A run that was cut off goes on where it was.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from tqdm import tqdm

from robust_compress import codecs, files, provenance
from robust_compress.ahead import ahead
from robust_compress.inspect import quality
from robust_compress.inspect.measurements import Log, Measurement, content_of
from robust_compress.inspect.sweeps import Sweep
from robust_compress.types import Clip, CodecError, DataError, Point, Source, SpecError


class CurvePoint(NamedTuple):
  """A codec at one level, over all pictures."""

  level: float
  n: int  # pictures
  n_bytes: int
  n_pixels: int
  bpp: float  # 8 · Σ bytes / Σ pixels
  bpp_mean: float  # mean of per-picture bpp
  psnr: float  # mean of per-picture PSNR in dB
  ms_ssim: float  # mean over the `n_ms_ssim` pictures that are large enough; NaN where none is
  n_ms_ssim: int
  encode_mpixels_s: float  # millions of pixels a second, one thread
  decode_mpixels_s: float


@dataclass(frozen=True)
class Curve:
  """One codec's points, low rate to high."""

  codec: Point  # without a level
  points: tuple[CurvePoint, ...]
  skipped: dict[str, str] = field(default_factory=dict)  # id of a picture that was left out: the reason
  contents: tuple[str, ...] = ()  # hashes of the pictures


def measure(
  source: Source, sweeps: Sequence[Sweep], directory: str | os.PathLike, *,
  n_workers: int | None = None, on_bad: str = "error", progress: bool = True,
) -> list[Curve]:  # fmt: skip
  """Codes every picture with every codec at every level that `directory` does not know yet.

  Args:
    source: of pictures or clips, read by many threads; each is read once a codec.
    sweeps: codecs with their levels.
    directory: where measurements are kept; this process's alone meanwhile.
    n_workers: threads; by default as many as this process has cores.
    on_bad: 'error' stops at a picture that cannot be read or coded; 'skip' leaves it out, and the curve says so.
    progress: whether to show a bar.

  Raises:
    DataError, CodecError: under on_bad='error'; what was measured until then stays.
    StoreError: another process works in `directory`, it cannot be written, or its disk is full.
  """
  if on_bad not in ("error", "skip"):
    raise SpecError(f"on_bad={on_bad!r}; expected 'error' or 'skip'")
  n_workers = n_workers or provenance.n_cores()
  n_codings = len(source) * sum(len(sweep.levels) for sweep in sweeps)
  with (
    files.lock(directory),
    ThreadPoolExecutor(n_workers, "rd") as pool,
    tqdm(total=n_codings, desc="rd", unit=" codings", disable=not progress) as bar,
  ):
    runs = [_Run(source, sweep, directory, on_bad == "skip") for sweep in sweeps]
    parts = list(itertools.product(range(len(source)), runs))
    with closing(ahead(pool, lambda index, run: run.measure(index), parts, 2 * n_workers)) as results:
      for (index, run), found in zip(parts, results):
        run.keep(source.id(index), found)
        bar.update(len(run.sweep.levels))
  return [run.curve() for run in runs]


class _Found(NamedTuple):
  """One picture at all levels of a codec, or the reason why there is nothing."""

  known: Sequence[Measurement] = ()
  new: Sequence[Measurement] = ()
  reason: str = ""


class _Run:
  """One codec's way through the pictures."""

  def __init__(self, source: Source, sweep: Sweep, directory: str | os.PathLike, skip: bool):
    self.source, self.sweep, self.skip = source, sweep, skip
    self.codec = codecs.load_codec(sweep.codec)
    self.log = Log(directory, self.codec, str(sweep))
    self.tallies = {level: _Tally() for level in sweep.levels}
    self.skipped: dict[str, str] = {}
    self.contents: list[str] = []

  def measure(self, index: int) -> _Found:
    """In a worker thread."""
    name = self.source.id(index)
    try:
      clip = self.source.picture(index).clip
      content = content_of(clip)
      known = [self.log.find(content, level) for level in self.sweep.levels]
      new = [self._code(clip, level) for level, found in zip(self.sweep.levels, known) if found is None]
      return _Found([one for one in known if one is not None], [Measurement(name, content, *one) for one in new])
    except (DataError, CodecError) as error:
      if self.skip:
        return _Found(reason=str(error))
      raise type(error)(f"picture {name!r}: {error} (--on-bad=skip leaves such pictures out)") from error

  def _code(self, clip: Clip, level: float) -> tuple:
    """A Measurement but for its first two fields."""
    started = time.perf_counter()
    [coded] = self.codec.encode([clip], [level])
    encoded = time.perf_counter()
    [decoded] = self.codec.decode([coded.blob])
    done = time.perf_counter()
    if decoded.shape != clip.shape:
      raise CodecError(f"{self.sweep}@{level:g}: decodes {list(clip.shape)} to {list(decoded.shape)}")
    distortion = quality.mse(clip, decoded), quality.ms_ssim(clip, decoded)
    return level, len(coded.blob), clip[..., 0].size, *distortion, encoded - started, done - encoded

  def keep(self, name: str, found: _Found) -> None:
    """In the thread that writes."""
    if found.reason:
      self.skipped[name] = found.reason
      return
    self.log.add(found.new)
    measured = [*found.known, *found.new]
    self.contents.append(measured[0].content)
    for one in measured:
      self.tallies[one.level].add(one)

  def curve(self) -> Curve:
    points = tuple(tally.point(level) for level, tally in self.tallies.items() if tally.n)
    return Curve(self.sweep.codec, points, self.skipped, tuple(self.contents))


class _Tally:
  """Sums over pictures at one level."""

  def __init__(self) -> None:
    self.n = self.n_bytes = self.n_pixels = self.n_ms_ssim = 0
    self.bpp = self.psnr = self.ms_ssim = self.encode_s = self.decode_s = 0.0

  def add(self, one: Measurement) -> None:
    self.n += 1
    for name in ("n_bytes", "n_pixels", "bpp", "psnr", "encode_s", "decode_s"):
      setattr(self, name, getattr(self, name) + getattr(one, name))
    if not math.isnan(one.ms_ssim):
      self.n_ms_ssim += 1
      self.ms_ssim += one.ms_ssim

  def point(self, level: float) -> CurvePoint:
    rate = 8 * self.n_bytes / self.n_pixels
    similarity = self.ms_ssim / self.n_ms_ssim if self.n_ms_ssim else math.nan
    speeds = [self.n_pixels / 1e6 / max(seconds, 1e-9) for seconds in (self.encode_s, self.decode_s)]
    counts = level, self.n, self.n_bytes, self.n_pixels
    return CurvePoint(*counts, rate, self.bpp / self.n, self.psnr / self.n, similarity, self.n_ms_ssim, *speeds)
