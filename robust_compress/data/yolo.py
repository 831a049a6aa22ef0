"""Pictures with boxes as YOLO has them: a text file beside each picture, a line an object.

    images/train/a.jpg ──▶ size, FileSource                     ──┐
    labels/train/a.txt ──▶ '0 0.48 0.63 0.69 0.71', shares of it ──┴─▶ BoxedFiles

A line is a class's number, then the middle of the box and its width and height, as shares of the picture's. A picture
without a text has no objects; a text without a picture is left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from robust_compress.data import boxes, layout
from robust_compress.data.boxes import Annotated, BoxedFiles, BoxTable
from robust_compress.data.files import SUFFIXES, File, FileSource, located
from robust_compress.types import DataError

_MAX_BYTES = 1 << 22  # of a text file
_FAR = 2.0  # a share beyond which it is taken for pixels
_NOT_LABELS = ("classes",)  # what annotation tools put beside the texts


def yolo(
  split: str, data_dir: Path, path: str = "", classes: str = "", images: str = "images/split",
  labels: str = "labels/split",
) -> BoxedFiles:  # fmt: skip
  """`path/images/SPLIT/a.jpg` with `path/labels/SPLIT/a.txt`, at any depth.

  classes: a class list, such as coco80, or a text file with a name a line. Ids are the pictures' paths in their folder.

  Raises:
    DataError: naming the file and the line, for a line that is none, or of a class that is not among `classes` or has
      no name there; where no text has the name of a picture.
  """
  root = located("yolo", path, data_dir)
  names = layout.class_names("yolo", root, classes)
  folder = layout.folder_of("yolo", root, images, split)
  pictures = layout.by_name(folder, SUFFIXES)
  texts = layout.by_name(layout.folder_of("yolo", root, labels, split), (".txt",), "texts")
  lone = sorted(texts.keys() - pictures.keys() - set(_NOT_LABELS))
  if not texts.keys() & pictures.keys():
    raise DataError(
      f"{next(iter(texts.values()))}: neither this text nor another has the name of a picture in {folder}"
    )
  files = [File(file.relative_to(folder).as_posix(), file) for file in pictures.values()]
  annotated = (_annotated(file, texts.get(name), names) for name, file in pictures.items())
  return BoxedFiles(FileSource(tuple(files)), BoxTable.of(annotated), names, len(lone))


def _annotated(picture: Path, text: Path | None, names: tuple[str, ...]) -> Annotated:
  height, width = layout.size_of(picture, str(picture))
  rows = [] if text is None else list(_rows(text, names))
  scaled = [
    ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height) for _, x, y, w, h in rows
  ]
  labels, kinds = [int(row[0]) for row in rows], [boxes.OBJECT] * len(rows)
  return Annotated((height, width), scaled, labels, kinds, [math.nan] * len(rows), str(text or picture))


def _rows(text: Path, names: tuple[str, ...]) -> Iterator[list[float]]:
  """[class, x, y, w, h] of each line."""
  for number, line in enumerate(layout.text_of(text, _MAX_BYTES).splitlines(), 1):
    if not line.strip():
      continue
    where = f"{text}, line {number}"
    fields = line.split()
    values = [value for value in map(layout.number_of, fields) if value is not None]
    if len(fields) != 5 or len(values) != 5:
      raise DataError(
        f"{where}: {line[:60]!r}; expected a class and four numbers: the middle, width and height of a box"
      )
    if not (fields[0].isdecimal() and values[0] < len(names)):
      raise DataError(f"{where}: class {fields[0]} is out of range; there are {len(names)} classes, counted from 0")
    if not names[int(values[0])]:  # no model has it: the object would be lost without being counted
      raise DataError(
        f"{where}: class {fields[0]} has no name in `classes`; give it one there, or take the list that counts as the "
        "texts do: coco80 from 0 and without gaps, coco91 from 1"
      )
    if max(map(abs, values[1:])) > _FAR:
      raise DataError(f"{where}: {line[:60]!r}; expected shares of the picture's width and height, not pixels")
    yield values
