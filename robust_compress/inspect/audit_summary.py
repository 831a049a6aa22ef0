"""What an audit found, in numbers: for a table, for JSON, and in one line for the rows of a study.

[Original] ──summarise──▶ Summary ──line──▶ 'JPEG 100 %, JPEG quality 96 (75-96), 4:4:4 74 %, …'
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from robust_compress.files import write_atomic
from robust_compress.inspect.audit import Original, audit, files_of
from robust_compress.specs import key_of
from robust_compress.types import Source

KEPT_SAMPLE, KEPT_TRACED = 500, 50  # files that are looked at for the rows of a study: few, as it waits for them


@dataclasses.dataclass(frozen=True)
class Summary:
  """An audit in numbers, for a table, for JSON, and for the provenance of rows. Qualities are the IJG's."""

  data: str
  n: int  # examples in the data set
  n_read: int  # files looked at
  n_unreadable: int
  formats: dict[str, int]
  bpp: tuple[float, ...]  # 8 · Σ bytes / Σ pixels; 5th, 50th and 95th percentile of single files
  sides: tuple[int, ...]  # shorter side: 5th, 50th and 95th percentile
  qualities: tuple[int, ...]  # of JPEG: 5th, 50th and 95th percentile
  histogram: dict[str, int]  # of JPEG qualities, '75-79': files
  n_other_tables: int  # JPEG files whose tables are none of the IJG's
  subsampling: dict[str, int]
  processes: dict[str, int]
  n_traced: int  # JPEG files whose pixels were enough to tell
  n_twice: int  # of these, with traces of an earlier JPEG compression
  n_lossless_traced: int
  n_lossless_once_jpeg: int  # files without loss, with traces of a JPEG compression
  earlier_qualities: tuple[int, ...]  # 5th, 50th and 95th percentile, where there are traces

  def line(self) -> str:
    """In one line, as rows carry it: 'JPEG 100 %, quality 96 (91-98), 4:2:0 …, twice compressed 3 of 200'."""
    parts = [f"{name} {_percent(count, self.n_read)}" for name, count in self.formats.items()]
    if self.qualities:
      low, middle, high = self.qualities
      parts.append(f"JPEG quality {middle} ({low}-{high})")
      parts += [f"{name} {_percent(n, sum(self.subsampling.values()))}" for name, n in self.subsampling.items()]
    if self.n_traced:
      parts.append(f"compressed before: {self.n_twice} of {self.n_traced}")
    if self.n_lossless_once_jpeg:
      parts.append(f"once JPEG: {self.n_lossless_once_jpeg} of {self.n_lossless_traced} lossless")
    return ", ".join(parts)


def summarise(originals: Sequence[Original], data: str, n: int) -> Summary:
  """Of what `audit` returned for a data set of `n` examples."""
  good = [one for one in originals if not one.error]
  jpegs = [one for one in good if one.format == "JPEG"]
  bitmaps = [one for one in good if one.traced and one.format != "JPEG"]
  levels = [one.quality for one in jpegs if one.quality is not None]
  n_pixels = sum(one.width * one.height for one in good)
  rate = (8 * sum(one.n_bytes for one in good) / n_pixels,) if n_pixels else ()
  earlier = [one.earlier_quality for one in good if one.earlier_quality is not None]
  return Summary(
    data, n, len(good), len(originals) - len(good),
    formats=_counted(one.format for one in good),
    bpp=(*rate, *_percentiles([one.bpp for one in good])),
    sides=_whole(_percentiles([min(one.width, one.height) for one in good])),
    qualities=_whole(_percentiles(levels)),
    histogram=_histogram(levels),
    n_other_tables=sum(one.table_error > 0 for one in jpegs),
    subsampling=_counted(one.subsampling for one in jpegs),
    processes=_counted(one.process for one in jpegs),
    n_traced=sum(one.traced for one in jpegs),
    n_twice=sum(one.earlier_quality is not None for one in jpegs),
    n_lossless_traced=len(bitmaps),
    n_lossless_once_jpeg=sum(one.earlier_quality is not None for one in bitmaps),
    earlier_qualities=_whole(_percentiles(earlier)),
  )  # fmt: skip


def _counted(names: Iterable[str]) -> dict[str, int]:
  """Most frequent first."""
  return dict(collections.Counter(names).most_common())


def _percentiles(values: Sequence[float]) -> tuple[float, ...]:
  return tuple(np.percentile(values, (5, 50, 95)).tolist()) if len(values) else ()


def _whole(values: Iterable[float]) -> tuple[int, ...]:
  return tuple(round(value) for value in values)


def _histogram(levels: Sequence[int]) -> dict[str, int]:
  """By fives, from the lowest that occurs to the highest."""
  counts = collections.Counter(level // 5 * 5 for level in levels)
  bins = range(min(counts), max(counts) + 1, 5) if counts else ()
  return {f"{low}-{low + 4}" if low < 100 else "100": counts[low] for low in bins}


def _percent(part: int, whole: int) -> str:
  return f"{100 * part / whole:.0f} %" if whole else "–"


# ----------------------------------------------------------------------------------------- for rows of a study


def kept(source: Source, data: str, workdir: str | os.PathLike) -> dict[str, str] | None:
  """How compressed the originals of a study's data set are, looked at once a workdir, as its rows name it.

  Fewer files are looked at than by the command, which takes its time. What lies under the view is what counts.

  Returns:
    {'summary': one line, 'file': the rest, in the workdir}, or None for pictures that are no files.
  """
  files = files_of(source)
  if files is None:
    return None
  name = f"originals/{key_of(files.fingerprint())}.json"
  path = Path(workdir) / name
  if not path.exists():
    found = audit(files, sample=KEPT_SAMPLE, traced=KEPT_TRACED, progress=False)
    summary = summarise(found, data, len(files))
    content = {"summary": summary.line(), **dataclasses.asdict(summary)}
    write_atomic(path, json.dumps(content, indent=2).encode())
  return {"summary": json.loads(path.read_text())["summary"], "file": name}
