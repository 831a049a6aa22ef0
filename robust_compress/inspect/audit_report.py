"""The command `audit` as one call, and an audit as people read it: a table, a histogram, what follows for curves."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from robust_compress import files
from robust_compress.inspect.audit import SAMPLE, TRACED, Original, audit
from robust_compress.inspect.audit_summary import Summary, summarise
from robust_compress.inspect.pictures import open_pictures
from robust_compress.inspect.tables import aligned, number
from robust_compress.report.csv_files import to_csv

LOW_QUALITY = 90  # below it an original has visibly lost, and bounds a curve within the rates that are usual
_FEW = 0.02  # share of files from which on something is said
_BAR = 40  # characters of the longest bar


def audit_all(
  names: Sequence[str], output: str | os.PathLike | None = None, *,
  sample: int = SAMPLE, traced: int = TRACED,
  data_dir: str | os.PathLike = "data", n_workers: int | None = None, progress: bool = True,
) -> str:  # fmt: skip
  """Audits folders and data sets, as `pictures.open_pictures` and `audit.audit` say.

  Args:
    names: of folders or data sets.
    output: folder for audit.json and audit.csv, or None to write nothing.

  Returns:
    A table a data set, with what must be known of it.
  """
  summaries, lines = [], []
  for name in names:
    source = open_pictures(name, data_dir)
    found = audit(source, sample=sample, traced=traced, n_workers=n_workers, progress=progress)
    summaries.append(summarise(found, name, len(source)))
    lines += [(name, one) for one in found]
  if output is not None:
    content = json.dumps([dataclasses.asdict(one) for one in summaries], indent=2)
    files.write_atomic(Path(output) / "audit.json", content.encode())
    files.write_atomic(Path(output) / "audit.csv", originals_csv(lines).encode())
  return "\n\n".join(map(text, summaries))


def text(summary: Summary) -> str:
  """Table, histogram and warnings."""
  parts = [aligned(_rows(summary), n_left=2)]
  if summary.histogram:
    parts += ["", "JPEG quality", _bars(summary.histogram)]
  return "\n".join([*parts, *(f"\n! {warning}" for warning in warnings(summary))])


def _rows(summary: Summary) -> list[list[str]]:
  looked_at = f"{summary.n_read} of {summary.n}" + (f", {summary.n_unreadable} unreadable" * bool(summary.n_unreadable))
  rows = [["data", summary.data], ["files looked at", looked_at], ["formats", _shares(summary.formats)]]
  if summary.bpp:
    rate, *spread = (number(value, 2) for value in summary.bpp)
    rows.append(["bits per pixel", f"{rate} in all; of a file {_spread(spread)}"])
    rows.append(["shorter side", f"{_spread(summary.sides)} pixels"])
  if summary.qualities:
    rows.append(["JPEG quality", _spread(summary.qualities)])
    others = f"{summary.n_other_tables} files have none of the IJG's; the nearest counts"
    rows.append(["JPEG tables", others if summary.n_other_tables else "the IJG's, in all files"])
  if summary.subsampling:
    rows.append(["JPEG chroma", _shares(summary.subsampling)])
    rows.append(["JPEG process", _shares(summary.processes)])
  if summary.n_traced:
    rows.append(["compressed twice", f"{summary.n_twice} of {summary.n_traced} JPEG files show it"])
  if summary.n_lossless_traced:
    rows.append(["once JPEG", f"{summary.n_lossless_once_jpeg} of {summary.n_lossless_traced} lossless files show it"])
  if summary.earlier_qualities:
    rows.append(["earlier quality", _spread(summary.earlier_qualities)])
  return rows


def _shares(counts: Mapping[str, int]) -> str:
  whole = sum(counts.values())
  return ", ".join(f"{name} {100 * count / whole:.0f} % ({count})" for name, count in counts.items())


def _spread(values: Sequence[object]) -> str:
  low, middle, high = values
  return f"{middle} (median; 5-95 %: {low} to {high})"


def _bars(histogram: Mapping[str, int]) -> str:
  longest = max(histogram.values())
  return aligned([[f"  {name}", "█" * -(-_BAR * n // longest), str(n)] for name, n in histogram.items()], n_left=2)


def warnings(summary: Summary) -> list[str]:
  """What the state of the originals means for curves drawn from them."""
  found = []
  lossy = {name: n for name, n in summary.formats.items() if name in ("JPEG", "WEBP", "AVIF", "JPEG2000", "MPO")}
  low = sum(n for name, n in summary.histogram.items() if int(name.partition("-")[0]) < LOW_QUALITY)
  if low > _FEW * summary.n_read:
    found.append(
      f"{low} of {summary.n_read} originals are JPEG below quality {LOW_QUALITY} (median {summary.qualities[1]}): "
      f"'original' means already compressed, and rates above {number(summary.bpp[0], 1)} bpp buy their artefacts."
    )
  if summary.n_twice > _FEW * max(1, summary.n_traced):
    found.append(
      f"{summary.n_twice} of {summary.n_traced} JPEG originals were JPEG before, about quality "
      f"{summary.earlier_qualities[1]}: their files' quality says less than it seems to."
    )
  if summary.n_lossless_once_jpeg > _FEW * max(1, summary.n_lossless_traced):
    found.append(
      f"{summary.n_lossless_once_jpeg} of {summary.n_lossless_traced} lossless originals were JPEG before, about "
      f"quality {summary.earlier_qualities[1]}: their own rate is no rate of an original."
    )
  if len(lossy) > 1 or (lossy and sum(lossy.values()) < summary.n_read):
    found.append("originals are of several kinds, lossy ones among them: curves mix their histories.")
  if summary.n_unreadable:
    found.append(f"{summary.n_unreadable} files cannot be read; audit.csv, which --output writes, names them.")
  return found


def originals_csv(originals: Iterable[tuple[str, Original]]) -> str:
  """One line a file, behind the name of its data set."""
  return to_csv(["data", *Original._fields], [{"data": data, **one._asdict()} for data, one in originals])
