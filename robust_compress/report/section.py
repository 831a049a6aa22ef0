"""One panel as a section of the page: its answer, figures and tables, each with what a reader needs to read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from robust_compress import specs
from robust_compress.report import canvas, classes, compare, curves, page, plots, summary, tables
from robust_compress.report.compare import Bjontegaard, Cheapest, Gain
from robust_compress.report.curves import CURVE_ROLES, Panel
from robust_compress.report.markup import Safe, element
from robust_compress.report.paired import Paired
from robust_compress.report.published import PublishedPoint, published
from robust_compress.store import write_atomic

_RECOVERED = (
  "Recovered is (C − B)/(A − B): the share of what compression costs the model as trained that finetuning brings back; "
  "a dash where coding costs nothing that can be told from noise."
)
_TESTED = " McNemar's p is exact, of C against B."
_FIRST_SEEDS = " McNemar compares the first training seeds."
_CHEAPEST = (
  "A setting counts when it and every dearer one measured stay within the loss. 'Interval too': from which setting on "
  "the whole paired 95 % interval of the loss does. Interpolated: where the curve crosses the bound. Settings measured "
  "over other pictures than the baseline are left out."
)
_BJONTEGAARD = (
  "BD-rate: bits more (+) or fewer (−) for equal accuracy, on average over the range both curves cover. BD-accuracy: "
  "gain at equal rate. A dash where they share no range, or are of different "
  "pictures. Intervals hold the rates fixed."
)
_SIZES = "Sizes are COCO's: areas up to 32² pixels of the view are small, over 96² large. Intervals are paired."
_CLASSES = (
  "Largest losses first; C is finetuned on the setting. These are without intervals: a class of few objects swings "
  "widely. Every class of every row of A, B and C is in "
)
_PUBLISHED = (
  "Only numbers that stand in a text or a table; stars in the figures. Weights, views and metric code differ in detail."
)


class Section(NamedTuple):
  """What the page needs of a panel."""

  anchor: str
  title: str
  answer: str
  body: Safe


class _Findings(NamedTuple):
  """All comparisons of a panel, worked out once."""

  gains: list[Gain]
  cheapest: list[Cheapest]
  bjontegaard: list[Bjontegaard]
  published: list[PublishedPoint]


def section(
  panel: Panel, everything: Sequence[Panel], paired: Paired, by_class: classes.ByClass, directory: Path
) -> Section:
  """Draws a panel's figures into `directory` and writes its section."""
  findings = _Findings(
    compare.gains(panel, paired),
    compare.cheapest(panel, paired),
    compare.bjontegaard(panel, paired),
    published(panel.task, panel.model, panel.data),
  )
  name = _name(panel, everything)
  parts: list[Any] = [
    _rates(panel, findings, directory, name),
    _gains(panel, everything, findings, directory, name),
    _tabled(tables.cheapest_table(findings.cheapest, panel), _CHEAPEST),
    _tabled(tables.bjontegaard_table(findings.bjontegaard, panel), _BJONTEGAARD),
    _levels(panel, findings, directory, name),
    _relative(panel, directory, name),
    _matrix(panel, directory, name),
    _sizes(panel, paired),
    _classes(panel, paired, by_class),
    _tabled(tables.published_table(findings.published, panel), _PUBLISHED),
    _cells(panel, len(everything) == 1),
  ]
  head = element("h2", curves.title(panel)), element("p", _about(panel), class_="note"), _missing(panel)
  answer = summary.answer(panel, findings.cheapest, findings.gains)
  return Section(name, curves.title(panel), answer, element("section", head, parts, id=name))


def overview(panels: Sequence[Panel], directory: Path) -> list[Safe]:
  """Models side by side, for every data set that several were measured on."""
  groups: dict[tuple[str, str], dict[str, Panel]] = {}
  for panel in panels:
    groups.setdefault((panel.task, panel.data), {}).setdefault(panel.model, panel)
  figures = []
  for (task, data), models in groups.items():
    for role, what in (("B", "as trained"), ("relative", "relative to their own output on the original")):
      drawn = plots.models_figure(list(models.values()), role) if len(models) > 1 else None
      name = f"models-{task}-{plain(specs.parse_data(data).name)}-{what.split()[0]}-{specs.key_of(data)[:6]}"
      caption = f"{len(models)} models {what}, on {specs.parse_data(data).name}."
      figures.append(framed(drawn, directory, name, caption, caption))
  figures = [figure for figure in figures if figure is not None]
  return [element("h2", "Models side by side"), *figures] if figures else []


def _name(panel: Panel, everything: Sequence[Panel]) -> str:
  """A file name and anchor a newcomer understands: 'resnet50.a1_in1k-imagenet2012'; numbered where two are alike."""
  alike = [one for one in everything if _plain_name(one) == _plain_name(panel)]
  number = "" if len(alike) == 1 else f"-{1 + next(i for i, one in enumerate(alike) if one is panel)}"
  return _plain_name(panel) + number


def _plain_name(panel: Panel) -> str:
  return plain(f"{panel.model}-{specs.parse_data(panel.data).name}")


def plain(text: str) -> str:
  """As a file name."""
  return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:80] or "panel"


def _about(panel: Panel) -> list[Any]:
  counts = sorted({row.n for row in panel.rows})
  text = [f"{panel.task} on ", element("code", panel.data)]
  text += [f", {'–'.join(map(str, counts))} pictures"] if counts else []
  text += [". Base weights: ", element("code", panel.base.source or f"trained here on {panel.base.data}")]
  if panel.training is not None:
    text += ["; finetuned on ", element("code", panel.training[0]), " by ", element("code", panel.training[1])]
  return [*text, "."]


def _missing(panel: Panel) -> Safe | None:
  missing = sum(sample.state == "missing" for sample in panel.samples)
  out = sum(sample.state == "unreachable" for sample in panel.samples)
  texts = [f"{missing} of {len(panel.samples)} planned cells not measured yet"] * bool(missing)
  texts += [f"{out} target rate{'s' * (out > 1)} out of the codec's reach"] * bool(out)
  texts += dict.fromkeys(sample.reason for sample in panel.samples if sample.reason)
  return element("p", "; ".join(texts) + ".", class_="note warning") if texts else None


# --------------------------------------------------------------------------------------------- figures


def framed(figure: Figure | None, directory: Path, name: str, alt: str, caption: Any) -> Safe | None:
  """A figure with its caption for the page, and beside the page as PNG."""
  if figure is None:
    return None
  write_atomic(directory / f"{name}.png", canvas.png(figure))
  return page.figure(canvas.svg(figure, name, alt), caption, f"{name}.png")


def _headed(title: str, *parts: Any) -> list[Any]:
  """A heading over what there is; nothing where there is nothing."""
  parts = [part for part in parts if part]
  begun = title if title[1:2].isupper() else title[:1].upper() + title[1:]  # mIoU stays as it is
  return [element("h3", begun), *parts] if parts else []


def _rates(panel: Panel, findings: _Findings, directory: Path, name: str) -> list[Any]:
  title = f"{panel.metric.title} over rate"
  caption = "Bars and bands are 95 % intervals" + (", over pictures and training seeds." if panel.n_seeds > 1 else ".")
  if panel.baseline is not None:
    caption += " The level line is the base model on originals, with its interval"
    known = panel.baseline.bpp is not None
    caption += "; the diamond stands at their own rate." if known else "; the originals' rate is unknown in this view."
  unplaced = sum(s.bpp is None and s.state != "measured" and s.role in CURVE_ROLES for s in panel.samples)
  caption += f" {unplaced} planned cells of unknown rate are only in the table." if unplaced else ""
  drawn = plots.rate_figure(panel, CURVE_ROLES, findings.published)
  alt = f"{title}; every number is in the table of all cells"
  return _headed(title, framed(drawn, directory, f"{name}-{panel.metric.name}-over-rate", alt, caption))


def _levels(panel: Panel, findings: _Findings, directory: Path, name: str) -> list[Any]:
  title = f"{panel.metric.title} over setting"
  drawn = plots.level_figure(panel, CURVE_ROLES, findings.published)
  caption = "The same over each codec's own setting, low rate on the left."
  return _headed(title, framed(drawn, directory, f"{name}-{panel.metric.name}-over-setting", title, caption))


def _relative(panel: Panel, directory: Path, name: str) -> list[Any]:
  """Reich's measure: the model's own output on the original as the truth."""
  caption = "The model's own output on the original is the truth: what coding changes, whether it was right or wrong."
  figures = []
  for kind, draw in (("rate", plots.rate_figure), ("setting", plots.level_figure)):
    file = f"{name}-relative-{panel.metric.name}-over-{kind}"
    alt = f"relative {panel.metric.title} over {kind}"
    figures.append(framed(draw(panel, ("relative",)), directory, file, alt, caption))
    caption = "The same over each codec's own setting."
  return _headed("relative to the model's own output", *figures)


def _matrix(panel: Panel, directory: Path, name: str) -> list[Any]:
  caption = "Rows are what the weights were finetuned on, columns what they were tested on. Hatched: not measured."
  alt = "train level by test level; every number is in the table of all cells"
  figure = framed(plots.matrix_figure(panel), directory, f"{name}-train-level-by-test-level", alt, caption)
  return _headed("finetuned at one level, tested at another", figure)


# ---------------------------------------------------------------------------------------------- tables


def _gains(panel: Panel, everything: Sequence[Panel], findings: _Findings, directory: Path, name: str) -> list[Any]:
  if not findings.gains:
    return []
  caption = f"C − B in {panel.metric.step}: what finetuning on a setting brings there, with paired 95 % intervals."
  alt = "gain by finetuning over bits per pixel; the numbers are in the table below"
  figure = framed(plots.gain_figure(panel, findings.gains), directory, f"{name}-gain-by-finetuning", alt, caption)
  choice = None
  if compare.control_beats_base(panel):
    text = "Finetuning on originals alone beats the base model on originals, so both choices of A and B are shown. "
    choice = element("p", text, summary.choice_text(panel, everything))
  one = tables.gain_table(findings.gains, panel)
  tested = _TESTED + _FIRST_SEEDS * (panel.n_seeds > 1) if compare.any_tested(findings.gains) else ""
  note = element("p", _RECOVERED + tested, class_="note")
  return _headed(one.caption, choice, figure, page.table(one), note)


def _tabled(one: tables.Table, note: str) -> list[Any]:
  return _headed(one.caption, page.table(one), element("p", note, class_="note")) if one.body else []


def _sizes(panel: Panel, paired: Paired) -> list[Any]:
  one = classes.size_table(panel, paired)
  return [] if one is None else _tabled(one, _SIZES)


def _classes(panel: Panel, paired: Paired, by_class: classes.ByClass) -> list[Any]:
  """A table a setting, the first of them open."""
  parts: list[Any] = []
  for setting in classes.settings(panel, paired):
    found = classes.lines(panel, setting, by_class)
    if found is not None:
      head = element("summary", classes.headline(found[0], setting, found[1]))
      table = page.table(classes.class_table(*found, setting.c is not None))
      parts.append(element("details", head, table, open=not parts))
  file = element("a", "classes.csv", href="classes.csv")
  return _headed("loss by class", element("p", _CLASSES, file, ".", class_="note"), *parts) if parts else []


def _cells(panel: Panel, is_open: bool) -> list[Any]:
  one = tables.cell_table(panel)
  inside = element("summary", f"{one.caption} ({len(one.body)})"), page.table(one)
  return [element("details", inside, open=is_open, class_="cells")]
