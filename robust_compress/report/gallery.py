"""The section of example pictures: each as the codec saw it and as it came back, with its bytes.

    examples/ ──page.examples──▶ strips at true pixels
    examples/, answers/ ──overlays──▶ strips with boxes or masks: the truth, A, then B and C of every point

Where answers were kept the second kind takes the place of the first.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from robust_compress import specs
from robust_compress.report import curves, names, overlays, page
from robust_compress.report.answers import Answer, Objects, class_name, load_answer, load_classes
from robust_compress.report.curves import Panel
from robust_compress.report.examples import load_examples
from robust_compress.report.markup import Safe, element
from robust_compress.types import IGNORED, NONE, Cell, Point, Weights

_PLAIN = "Each picture as the codec saw it and as it came back, at true pixels, with its bytes and PSNR."
_OVERLAID = (
  "Each picture as the codec saw it with the truth and with what the model finds, then as it came back with what it "
  f"finds there; with bytes and PSNR. Pictures under {overlays.LEAST} pixels a side are magnified, those over "
  f"{overlays.MOST} reduced."
)
_NAMED = 16  # classes in the key to a picture's colours


class Kept(NamedTuple):
  """Where answers lie, and from which score on boxes are drawn."""

  directory: str | os.PathLike[str]
  score: float


class _Drawn(NamedTuple):
  title: str
  remarks: list[str]
  png: bytes


def section(found: Sequence[Panel], examples: str | os.PathLike[str] | None, kept: Kept | None) -> Safe | None:
  """None where there are no pictures."""
  if examples is None:
    return None
  plain, overlaid = [], []
  for data in dict.fromkeys(panel.data for panel in found):
    entries, panels = load_examples(examples, data), [panel for panel in found if panel.data == data]
    drawn = [] if kept is None else [part for panel in panels for part in _panel(panel, entries, kept, len(found))]
    overlaid += drawn
    strips = [] if drawn else page.examples(entries)
    plain += [element("p", element("code", data), class_="quiet"), *strips] if strips else []
  if not plain and not overlaid:
    return None
  parts = [[element("p", lead), *drawn] for lead, drawn in ((_PLAIN, plain), (_OVERLAID, overlaid)) if drawn]
  return element("section", element("h2", "Example pictures"), parts)


def _panel(panel: Panel, entries: Sequence[dict[str, Any]], kept: Kept, n_panels: int) -> list[Safe]:
  """The strips of a panel under its heading, as many as its share of the section allows, and at least one."""
  classes, strips, used, has_boxes = load_classes(kept.directory, panel.model, panel.data), [], 0, False
  for entry in entries:
    strip = _Strip(panel, entry, kept, classes)
    pictures = strip.drawn()
    has_boxes = has_boxes or strip.has_boxes
    used += sum(len(picture.png) for group in pictures for picture in group)
    if strips and used > page.PICTURE_BUDGET // n_panels:
      strips.append(element("p", f"{len(entries) - len(strips)} more are beside the coded pictures.", class_="note"))
      break
    strips += [strip.written(pictures)] if pictures else []
  note = f"Boxes of a score of at least {100 * kept.score:.0f} %, which stands beside their class." * has_boxes
  return (
    [element("h3", curves.title(panel)), *[element("p", note, class_="note")] * has_boxes, *strips] if strips else []
  )


class _Strip:
  """One example picture by one panel's weights. What was not kept is left out.

  Attributes:
    has_boxes: whether there are some among what was drawn.
  """

  def __init__(self, panel: Panel, entry: Mapping[str, Any], kept: Kept, classes: Sequence[str]):
    self.panel, self.entry, self.kept, self.classes = panel, entry, kept, classes
    self.has_boxes = False
    self._truth: Objects = {}
    self._seen: Counter[int] = Counter()  # pixels by class of the masks that were drawn

  def drawn(self) -> list[list[_Drawn]]:
    """The original with the truth and with A's answer; then for every point B's answer and C's."""
    original, n_bytes = self.entry["original"], page.bytes_text(self.entry["n_bytes"])
    coded = [self._coded(one) for one in self.entry["decoded"]]
    first = self._found(original, "original", self.panel.base, NONE, "as trained")
    truth = [self._drawn(original, "original", ["the truth", n_bytes], self._truth)] if self._truth else []
    return [group for group in ([*truth, *first], *coded) if group]

  def _coded(self, one: Mapping[str, Any]) -> list[_Drawn]:
    point, cost = specs.parse_point(one["point"]), page.cost_text(one)
    title, c = names.point_title(point), self.panel.find("C", point)
    group = self._found(one["file"], title, self.panel.base, point, "as trained", cost)
    return group + (
      self._found(one["file"], title, c.rows[0].cell.weights, point, "finetuned on it", cost) if c else []
    )

  def _found(self, path: Path, title: str, weights: Weights, point: Point, *remarks: str) -> list[_Drawn]:
    """The picture with what these weights found in it; [] where that was not kept."""
    cell = Cell(self.panel.task, self.panel.model, weights, self.panel.data, point)
    answer = load_answer(self.kept.directory, cell, self.entry["id"])
    if answer is None:
      return []
    self._truth = answer.truth or self._truth
    return [self._drawn(path, title, [*remarks, *_said(answer, self.kept.score)], answer.found)]

  def _drawn(self, path: Path, title: str, remarks: list[str], objects: Objects) -> _Drawn:
    self.has_boxes = self.has_boxes or "boxes" in objects
    self._seen.update(overlays.classes_in(objects))
    with Image.open(path) as image:
      pixels = overlays.drawn(np.asarray(image), objects, self._named, self.kept.score)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return _Drawn(title, remarks, buffer.getvalue())

  def written(self, groups: Sequence[Sequence[_Drawn]]) -> Safe:
    pictures = [[page.picture(p.png, p.title, self.entry["id"], *p.remarks) for p in group] for group in groups]
    strip = element("div", [element("div", group, class_="group") for group in pictures], class_="example")
    return element("div", strip, self._key(), class_="drawn")

  def _key(self) -> Safe | None:
    """Which colour is which class, largest first, where masks were drawn."""
    named = [(label, self._named(label)) for label, _ in self._seen.most_common()]
    coloured = [(overlays.colour(label), name) for label, name in named if not overlays.is_ground(name)]
    swatches = [(element("i", style="background:#{:02x}{:02x}{:02x}".format(*ink)), name) for ink, name in coloured]
    spans = [element("span", *swatch) for swatch in swatches[:_NAMED]]
    left_out = f"and {len(swatches) - _NAMED} more" if len(swatches) > _NAMED else None
    return element("p", spans, left_out, class_="key") if spans else None

  def _named(self, label: int) -> str:
    return class_name(self.classes, label)


def _said(answer: Answer, score: float) -> list[str]:
  """How many boxes are drawn; of a mask how many pixels are as in the truth, of those that count."""
  if "boxes" in answer.found:
    n = int((answer.found["scores"] >= score).sum())
    return [f"{n or 'no'} box{'es' * (n > 1)}"]
  found, truth = answer.found["segmentation"], answer.truth.get("segmentation")
  if truth is None or found.shape != truth.shape or (truth == IGNORED).all():
    return []
  return [f"{names.percent_text(float((found == truth)[truth != IGNORED].mean()))} of pixels right"]
