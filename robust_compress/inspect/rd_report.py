"""The command `rd` as one call: measure, compare, write, and say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from robust_compress import files
from robust_compress.inspect import compare, figure, kodak, rd, sweeps
from robust_compress.inspect.pictures import open_pictures
from robust_compress.inspect.rd import Curve
from robust_compress.report.canvas import png
from robust_compress.types import DataError


def rate_distortion(
  codecs: str, pictures: str, output: str | os.PathLike, *,
  levels: str = "", anchor: str = "", published: str = "auto", on_bad: str = "error",
  data_dir: str | os.PathLike = "data", n_workers: int | None = None, progress: bool = True,
) -> str:  # fmt: skip
  """Measures what `output` does not hold yet, and writes rd.csv, bd_rate.csv and rd.png into it.

  Args are as on the command line: `sweeps.parse_sweeps`, `pictures.open_pictures`, `compare.anchor_of`,
  `kodak.chosen` and `rd.measure` say what they may be.

  Returns:
    Tables, and what must be known to read them.

  Raises:
    SpecError, LevelError: before anything is measured.
    DataError, CodecError, StoreError: as `rd.measure`.
  """
  asked = sweeps.parse_sweeps(codecs, levels)
  names = {sweep.codec.codec for sweep in asked}
  compare.check_anchor(anchor, list(map(str, asked)))
  kodak.chosen(published, names, True)
  source = open_pictures(pictures, data_dir)
  curves = rd.measure(source, asked, output, n_workers=n_workers, on_bad=on_bad, progress=progress)
  on_kodak = kodak.is_kodak(curves[0].contents)
  overlaid = kodak.chosen(published, names, on_kodak)
  drawn = compare.lines(curves, overlaid)
  if not any(line.measured for line in drawn):
    raise DataError(f"{pictures}: none of {len(source)} pictures could be measured: {_reasons(curves)}")
  base = compare.anchor_of(anchor, drawn)
  rates = compare.bd_rates([line for line in drawn if line.measured or on_kodak], base)
  title = f"{len(source)} pictures of {Path(pictures).name or pictures}"
  foot = f"published: means over Kodak's 24 pictures, {kodak.origin()}" if overlaid else ""
  directory = Path(output)
  files.write_atomic(directory / "rd.csv", compare.curves_csv(curves, overlaid).encode())
  files.write_atomic(directory / "bd_rate.csv", compare.bd_csv(rates, base).encode())
  files.write_atomic(directory / "rd.png", png(figure.rd_figure(drawn, title, foot)))
  tables = [compare.curves_table(curves), compare.bd_table(rates, base)] if rates else [compare.curves_table(curves)]
  return "\n\n".join([*tables, "\n".join([*_notes(curves, on_kodak or base.measured), str(directory / "rd.png")])])


def _notes(curves: Sequence[Curve], same_pictures: bool) -> list[str]:
  """What is not over all pictures, or over others."""
  notes = [] if same_pictures else ["! the anchor is of Kodak's pictures, and these are others: so are the rates"]
  for curve in curves:
    if curve.skipped:
      notes.append(f"! {compare.call(curve.codec)}: {len(curve.skipped)} pictures left out: {_reasons([curve])}")
  counts = {(point.n_ms_ssim, point.n) for curve in curves for point in curve.points}
  for n, whole in sorted(counts):
    if n < whole:
      notes.append(f"! MS-SSIM is that of {n} of {whole} pictures; the others have a side under 161 pixels")
  return notes


def _reasons(curves: Sequence[Curve]) -> str:
  """The first few."""
  reasons = [f"{name}: {reason}" for curve in curves for name, reason in curve.skipped.items()]
  return "; ".join(reasons[:3]) + "; …" * (len(reasons) > 3)
