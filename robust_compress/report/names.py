"""How metrics, codecs and numbers are called and written in a report.

Metrics are fractions in rows and percentages here; errors (EPE, AbsRel, …) keep their own unit. The order of
`METRICS` settles which metric of a row is drawn: the first that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from robust_compress import specs
from robust_compress.types import Point


class Metric(NamedTuple):
  """One metric as a reader meets it."""

  name: str
  title: str
  is_fraction: bool = True  # written in percent
  higher_is_better: bool = True

  @property
  def scale(self) -> float:
    return 100.0 if self.is_fraction else 1.0

  @property
  def unit(self) -> str:
    return "%" if self.is_fraction else ""

  @property
  def step(self) -> str:
    """What a difference of this metric is counted in."""
    return "points" if self.is_fraction else "units"

  def text(self, value: float | None, signed: bool = False) -> str:
    """text(0.7312) == '73.1'; a minus sign is a minus sign, not a hyphen."""
    if value is None or value != value:
      return "–"
    digits = 1 if self.is_fraction else 3
    value = round(value * self.scale, digits) + 0.0  # minus zero is zero
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")

  def with_unit(self, value: float | None) -> str:
    return f"{self.text(value)}{self.unit and ' ' + self.unit}"

  def interval_text(self, interval: tuple[float, float] | None, signed: bool = False) -> str:
    return "" if interval is None else f"[{self.text(interval[0], signed)}, {self.text(interval[1], signed)}]"

  def better(self, value: float) -> float:
    """The value turned so that more is better."""
    return value if self.higher_is_better else -value


METRICS = {
  metric.name: metric
  for metric in (
    Metric("top1", "top-1 accuracy"),
    Metric("AP", "AP"),
    Metric("mIoU", "mIoU"),
    Metric("EPE", "end-point error", is_fraction=False, higher_is_better=False),
    Metric("AbsRel", "absolute relative error", is_fraction=False, higher_is_better=False),
    Metric("psnr", "PSNR in dB", is_fraction=False),
    Metric("top5", "top-5 accuracy"),
    Metric("AP50", "AP at IoU 0.5"),
    Metric("AP75", "AP at IoU 0.75"),
    Metric("APs", "AP of small objects"),
    Metric("APm", "AP of medium objects"),
    Metric("APl", "AP of large objects"),
    Metric("AR", "average recall"),
    Metric("VOC07", "AP of VOC 2007"),
    Metric("VOC10", "AP of VOC 2010"),
    Metric("global_accuracy", "pixel accuracy"),
    Metric("mean_accuracy", "mean class accuracy"),
    Metric("SqRel", "squared relative error", is_fraction=False, higher_is_better=False),
    Metric("RMSE", "root mean square error", is_fraction=False, higher_is_better=False),
  )
}


def known_metric(name: str) -> Metric:
  """A metric that is not in the table is taken for a fraction of which more is better."""
  return METRICS.get(name, Metric(name, name))


def ordered_metrics(names: Iterable[str]) -> list[Metric]:
  """The metrics that occur, most telling first; unknown ones last, by name."""
  names = set(names)
  known = [METRICS[name] for name in METRICS if name in names]
  return known + [known_metric(name) for name in sorted(names - set(METRICS))]


CODEC_TITLES = {
  "none": "original",
  "jpeg": "JPEG",
  "jpeg2000": "JPEG 2000",
  "webp": "WebP",
  "avif": "AVIF",
  "bpg": "BPG",
  "h264": "H.264",
  "hevc": "HEVC",
  "av1": "AV1",
  "vp9": "VP9",
  "jxl": "JPEG XL",
  "heic": "HEIC",
  "bmshj2018-factorized": "factorised prior",
  "bmshj2018-hyperprior": "scale hyperprior",
  "mbt2018-mean": "mean-scale hyperprior",
  "mbt2018": "mean-scale hyperprior and context",
  "cheng2020-anchor": "Cheng 2020 anchor",
  "cheng2020-attn": "Cheng 2020 attention",
  "cheng2020-gmm": "Cheng 2020 Gaussian mixture",
}
LEVEL_NAMES = {
  **dict.fromkeys(("jpeg", "webp", "avif", "jxl", "heic"), "quality"),
  **dict.fromkeys(("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"), "quality"),
  **dict.fromkeys(("cheng2020-anchor", "cheng2020-attn", "cheng2020-gmm"), "quality"),
  "jpeg2000": "dB",
  **dict.fromkeys(("bpg", "h264", "hevc", "av1", "vp9"), "QP"),
}
ROLE_TITLES = {
  "A": "original pictures",
  "B": "as trained",
  "C": "finetuned",
  "control": "control",
  "mixed": "mixed",
  "matrix": "other level",
  "relative": "relative",
}


def codec_key(point: Point) -> str:
  """A codec with its options, without a level: the identity of a curve."""
  return specs.format_call(point.codec, point.options)


def codec_title(point: Point) -> str:
  title = CODEC_TITLES.get(point.codec, point.codec)
  said = [f"{key} {specs.format_value(value)}" for key, value in point.options if key != "per_image"]
  said += ["a level a picture"] if point.per_image else []
  return title + (f" ({', '.join(said)})" if said else "")


def level_name(point: Point) -> str:
  return "CRF" if ("mode", "crf") in point.options else LEVEL_NAMES.get(point.codec, "level")


def point_title(point: Point) -> str:
  """'JPEG, quality 10'; 'JPEG 2000, 32 dB'; 'BPG at 0.1 bpp'; 'original'."""
  if point.bpp is not None:
    return f"{codec_title(point)} at {specs.format_number(point.bpp)} bpp"
  if point.level is None:
    return codec_title(point)
  name, level = level_name(point), specs.format_number(point.level)
  return f"{codec_title(point)}, " + (f"{level} dB" if name == "dB" else f"{name} {level}")


def setting_text(point: Point) -> str:
  """The level alone: 'quality 10', '32 dB', '0.1 bpp asked'."""
  if point.bpp is not None:
    return f"{specs.format_number(point.bpp)} bpp asked"
  return "–" if point.level is None else point_title(point).rsplit(", ", 1)[-1]


def bpp_text(bpp: float | None) -> str:
  """Two decimals, three below 0.1 where two would be coarse; a dash when unknown."""
  return "–" if bpp is None else f"{bpp:.3f}" if bpp < 0.0995 else f"{bpp:.2f}"


def placed_title(point: Point, bpp: float | None) -> str:
  """Where on a curve: 'WebP, quality 1, 0.17 bpp'; a target rate is its own place: 'BPG at 0.1 bpp'."""
  return point_title(point) if point.bpp is not None or bpp is None else f"{point_title(point)}, {bpp_text(bpp)} bpp"


def percent_text(share: float | None, signed: bool = False) -> str:
  return "–" if share is None or share != share else f"{100 * share:{'+' if signed else ''}.0f} %".replace("-", "−")
