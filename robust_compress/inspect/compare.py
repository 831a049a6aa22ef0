"""Measured and published curves side by side: tables, Bjøntegaard deltas, CSV.

[Curve], [Published] ──lines──▶ [Line] ──bd_rates──▶ percent of bits against the anchor, at equal PSNR and MS-SSIM
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from robust_compress import rate, specs
from robust_compress.inspect import kodak, quality
from robust_compress.inspect.kodak import Published
from robust_compress.inspect.rd import Curve, CurvePoint
from robust_compress.inspect.tables import aligned, number
from robust_compress.report import names
from robust_compress.report.csv_files import to_csv
from robust_compress.specs import nearest
from robust_compress.types import Point

PREFIX = "kodak:"  # of a published curve's name, where measured ones are named too


class Line(NamedTuple):
  """A curve as it is compared and drawn, whoever measured it."""

  key: str  # 'webp(method=6)' or 'kodak:vtm'
  title: str
  codec: str  # name without options
  measured: bool
  bpp: tuple[float, ...]
  psnr: tuple[float, ...]  # dB
  ms_ssim_db: tuple[float, ...]  # () where it is not known; NaN where it is not defined


def lines(curves: Iterable[Curve], published: Iterable[Published]) -> list[Line]:
  """Measured ones first."""
  return [_measured(curve) for curve in curves if curve.points] + [_published(curve) for curve in published]


def _measured(curve: Curve) -> Line:
  points, title = curve.points, names.codec_title(curve.codec)
  similarities = tuple(quality.decibels(point.ms_ssim) for point in points)
  rates, psnrs = tuple(point.bpp for point in points), tuple(point.psnr for point in points)
  return Line(call(curve.codec), title, curve.codec.codec, True, rates, psnrs, similarities)


def _published(curve: Published) -> Line:
  similarities = tuple(map(quality.decibels, curve.ms_ssim))
  return Line(PREFIX + curve.name, curve.title, curve.codec, False, curve.bpp, curve.psnr, similarities)


def call(codec: Point) -> str:
  return specs.format_call(codec.codec, codec.options)


# ------------------------------------------------------------------------------------ Bjøntegaard deltas


def check_anchor(text: str, measured: Sequence[str]) -> str:
  """The key of the curve that `--anchor` names: a measured codec as it was asked for, or kodak:NAME; '' is the first.

  Raises SpecError for one that is neither; names the nearest.
  """
  if text.startswith(PREFIX):
    return PREFIX + kodak.curve(text.removeprefix(PREFIX)).name
  key = specs.format_call(*specs.parse_call(text)) if text else measured[0]
  if key not in measured:
    raise nearest("anchor", key, [*measured, *(PREFIX + name for name in kodak.names())])
  return key


def anchor_of(text: str, drawn: Sequence[Line]) -> Line:
  """The curve that `--anchor` names; raises SpecError for one that was not measured."""
  key = check_anchor(text, [line.key for line in drawn if line.measured])
  if key.startswith(PREFIX):
    return _published(kodak.curve(key.removeprefix(PREFIX)))
  return next(line for line in drawn if line.key == key)


class BdRate(NamedTuple):
  """Percent of bits that a curve takes more (negative: fewer) than the anchor; None where they do not overlap."""

  line: Line
  psnr: float | None
  ms_ssim: float | None


def bd_rates(drawn: Iterable[Line], anchor: Line) -> list[BdRate]:
  """Of every curve but the anchor itself. MS-SSIM counts in dB, which spreads its curves as PSNR's are."""
  return [
    BdRate(
      line,
      rate.bd_rate(anchor.bpp, anchor.psnr, line.bpp, line.psnr),
      rate.bd_rate(anchor.bpp, anchor.ms_ssim_db, line.bpp, line.ms_ssim_db)
      if anchor.ms_ssim_db and line.ms_ssim_db
      else None,
    )
    for line in drawn
    if line.key != anchor.key
  ]


# ------------------------------------------------------------------------------------------ written forms

_HEAD = ["", "level", "bpp", "PSNR dB", "MS-SSIM", "in dB", "encode", "decode"]


def curves_table(curves: Iterable[Curve]) -> str:
  """One row a level; speeds in millions of pixels a second on one core."""
  rows = [_HEAD, [*[""] * (len(_HEAD) - 2), "Mpx/s", "Mpx/s"]]
  for curve in curves:
    for place, point in enumerate(curve.points):
      rows.append([call(curve.codec) if place == 0 else "", *_cells(point)])
  return aligned(rows)


def _cells(point: CurvePoint) -> list[str]:
  similarity = [number(point.ms_ssim, 4), number(quality.decibels(point.ms_ssim), 2)]
  speeds = [number(speed, 1) for speed in (point.encode_mpixels_s, point.decode_mpixels_s)]
  level = specs.format_number(point.level)
  return [level, number(point.bpp, 3), number(point.psnr, 2), *similarity, *speeds]


def bd_table(rates: Sequence[BdRate], anchor: Line) -> str:
  """Says of each curve how many more bits it takes."""
  rows = [["bits against " + anchor.key, "equal PSNR", "equal MS-SSIM"]]
  rows += [[one.line.key, *(_percent(value) for value in (one.psnr, one.ms_ssim))] for one in rates]
  return aligned(rows)


def _percent(value: float | None) -> str:
  return "–" if value is None else f"{number(value, 1, sign=True)} %"


def curves_csv(curves: Iterable[Curve], published: Iterable[Published]) -> str:
  """Every point with full numbers, published ones behind the measured."""
  rows: list[dict[str, Any]] = []
  for curve in curves:
    rows += [{"curve": call(curve.codec), "source": "measured", **point._asdict()} for point in curve.points]
  for curve in published:
    columns = {"level": curve.levels, "bpp": curve.bpp, "psnr": curve.psnr, "ms_ssim": curve.ms_ssim}
    for place in range(len(curve.bpp)):
      numbers = {name: values[place] for name, values in columns.items() if values}
      rows.append({"curve": PREFIX + curve.name, "source": curve.source, **numbers})
  return to_csv(["curve", "source", *CurvePoint._fields], rows)


def bd_csv(rates: Iterable[BdRate], anchor: Line) -> str:
  fields = ["curve", "anchor", "bd_rate_psnr_percent", "bd_rate_ms_ssim_percent"]
  rows = [dict(zip(fields, (one.line.key, anchor.key, one.psnr, one.ms_ssim))) for one in rates]
  return to_csv(fields, rows)
