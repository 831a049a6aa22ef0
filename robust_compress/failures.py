"""Where a learned codec fails: pictures of which JPEG makes more with as many bytes.

    cell ──equal_bytes──▶ original, learned, JPEG ──network──▶ right or wrong, read as ──▶ failures/<cell key>/

Asked of every learned point that base weights are tested at. What is there already is not made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from robust_compress import equal_bytes, parallel, protocols, store
from robust_compress.cells import grouped
from robust_compress.coding import Coding
from robust_compress.data import labels
from robust_compress.equal_bytes import Matched
from robust_compress.evaluate import Evaluation, Predict
from robust_compress.measuring import Measuring
from robust_compress.report.against_jpeg import Comparison, folder_of, load_comparison, save_comparison
from robust_compress.report.examples import DecodedExample, Example, save_examples
from robust_compress.types import Cell, Point, Source, StoreError

LOG = logging.getLogger("robust_compress")
WINDOW = 256  # pixels a side of what is shown of a larger picture


class Failures:
  """Compares learned codecs with JPEG at equal bytes. Every host calls these methods alike.

  Args:
    measuring: how pictures go through a model.
    coding: how JPEG is coded.
    replace: comparisons that were made under other conditions are made anew, instead of being an error.
  """

  def __init__(self, measuring: Measuring, coding: Coding, replace: bool = False):
    self.measuring, self.coding, self.replace = measuring, coding, replace
    self.bench, self.directory = measuring.bench, measuring.bench.workdir / "failures"
    self._matched: dict[tuple[str, Point], Matched] = {}

  def missing(self, cells: Iterable[Cell]) -> list[Cell]:
    """Cells of base weights at learned points without a comparison; labels, where there are several targets.

    Raises:
      StoreError: a comparison that was made under other conditions, which are shown.
    """
    cells = list(cells)
    learned = {point for point in dict.fromkeys(cell.test for cell in cells) if equal_bytes.reconstructs(point)}
    asked = [cell for cell in cells if cell.test in learned and protocols.is_base(cell.weights)]
    alike = grouped(asked, lambda cell: (cell.model, cell.weights, cell.data, cell.test))
    chosen = [min(group, key=lambda cell: cell.target != "labels") for _, group in alike]
    return [cell for cell in chosen if not self._stands(cell) and self._is_coded(cell)]

  def model(self, name: str, cells: Sequence[Cell]) -> None:
    """Compares cells of one model: what was compiled to measure them serves here too."""
    for weights, group in grouped(cells, lambda cell: cell.weights):
      predict = self.measuring.predict(name, weights)
      for cell in group:
        key = cell.data, cell.test
        if key not in self._matched:
          self._matched[key] = equal_bytes.match(self.coding, *key)
        self._compare(cell, predict, self._matched[key])

  def fingerprint(self, cell: Cell) -> dict[str, str]:
    """What can change a number of the comparison: all that can change the row's, and JPEG."""
    return {**self.bench.fingerprint(cell), "equal bytes": equal_bytes.fingerprint()}

  def _stands(self, cell: Cell) -> bool:
    there = load_comparison(self.directory, cell)
    if there is None:
      return False
    differing = store.differences(there.fingerprint, self.fingerprint(cell))
    if differing and not self.replace:
      raise StoreError(
        f"{folder_of(self.directory, cell)} was compared with JPEG under other conditions: {'; '.join(differing)}; "
        "give --replace to compare it again, or use another workdir"
      )
    return not differing

  def _is_coded(self, cell: Cell) -> bool:
    pictures = self.bench.pictures
    coded = pictures.is_coded(cell.data, cell.test)
    if not coded and pictures.levels.coded_as(cell.test) is not None:
      LOG.warning("not compared with JPEG, its coded pictures are gone: %s", protocols.describe(cell))
    return coded

  # ------------------------------------------------------------------------------------------ one cell

  def _compare(self, cell: Cell, predict: Predict, matched: Matched) -> None:
    """Pictures first, numbers last: these promise that those are there."""
    found = self._answers(cell, predict, matched)
    if parallel.host() != 0:
      return
    columns, right = dict(matched.columns), getattr(self.bench.task, "right", "")
    if right:
      columns["right"] = found["learned"].records[cell.target][right].astype(bool)
      columns["right_jpeg"] = found["jpeg"].records[cell.target][right].astype(bool)
    comparison = Comparison(cell, self.fingerprint(cell), matched.n_test, columns)
    worst = comparison.worst(self.bench.config.n_examples)
    examples = [self._example(comparison, matched, found, index) for index in worst]
    save_examples(folder_of(self.directory, cell), cell.data, examples)
    save_comparison(self.directory, comparison)
    n_beaten, n_equal = int(comparison.beaten.sum()), int(comparison.equal.sum())
    LOG.info("%s: JPEG is better on %d of %d at equal bytes", protocols.describe(cell), n_beaten, n_equal)

  def _answers(self, cell: Cell, predict: Predict, matched: Matched) -> dict[str, Evaluation]:
    """What the model says of the originals, the learned codec's pictures, and JPEG's."""
    found: dict[str, Evaluation] = {}
    for kind in ("original", "learned", "jpeg"):
      if cell.target == "labels":
        targets = {"labels": None}
      else:  # the originals' own answers are the truth of the others
        targets = {cell.target: found["original"].as_self()} if found else {}
      found[kind] = self.measuring.over(
        self._labelled(cell, getattr(matched, kind)), predict, cell.model, cell.data,
        f"{cell.test} against jpeg, {kind}", targets, keep_predictions=True,
      )  # fmt: skip
    return found

  def _labelled(self, cell: Cell, source: Source) -> Source:
    """With labels as the model counts them."""
    classes = self.bench.labelled(self.bench.models[cell.model], cell.data).classes
    return source if source.classes == classes else labels.RelabelledSource(source, classes)

  # -------------------------------------------------------------------------------------- what is shown

  def _example(self, comparison: Comparison, matched: Matched, found: dict[str, Evaluation], index: int) -> Example:
    """One picture by all three, cut to where JPEG is most ahead if it is large."""
    columns, source = comparison.columns, self._labelled(comparison.cell, matched.original)
    picture = matched.original.picture(index)
    original, learned, jpeg = (
      clip[0] for clip in (picture.clip, matched.learned.picture(index).clip, matched.jpeg.picture(index).clip)
    )
    part = window(original, learned, jpeg)

    def said(kind: str) -> str | None:
      return _class(self.bench.task.as_targets(found[kind].predictions).get("label", ())[index:], source.classes)

    def decoded(kind: str, point: Point, pixels: np.ndarray, end: str = "") -> DecodedExample:
      n_bytes, psnr = int(columns[f"n_bytes{end}"][index]), float(columns[f"psnr{end}"][index])
      return DecodedExample(point, pixels[part], n_bytes, said(kind), psnr if np.isfinite(psnr) else None)

    at = Point("jpeg", level=float(columns["level_jpeg"][index]))
    both = decoded("learned", comparison.cell.test, learned), decoded("jpeg", at, jpeg, "_jpeg")
    label = _class(np.atleast_1d(source.target(index).get("label", ())), source.classes)
    return Example(source.id(index), original[part], picture.n_bytes, label, both, said("original"))


def _class(labels: np.ndarray | Sequence[int], classes: Sequence[str]) -> str | None:
  """The name of the first label; None where labels are not classes."""
  return classes[int(labels[0])] if len(labels) and 0 <= labels[0] < len(classes) else None


def window(original: np.ndarray, learned: np.ndarray, jpeg: np.ndarray) -> tuple[slice, slice]:
  """Of pictures uint8[h w 3] the part, at most WINDOW pixels a side, where the learned error exceeds JPEG's by most."""
  errors = [np.square(one.astype(np.float32) - original).sum(-1) for one in (learned, jpeg)]
  shape = original.shape[:2]
  sides = [min(side, WINDOW) for side in shape]
  excess = ndimage.uniform_filter(errors[0] - errors[1], sides, mode="constant")
  whole = tuple(
    slice(side // 2, side // 2 + n - side + 1) for side, n in zip(sides, shape)
  )  # windows inside the picture
  place = np.unravel_index(np.argmax(excess[whole]), excess[whole].shape)
  return tuple(slice(int(start), int(start) + side) for start, side in zip(place, sides))
