"""Pictures with boxes as PASCAL VOC has them: an XML file for each picture, and lists of names that make the splits.

    ImageSets/Main/test.txt ──▶ names ──▶ JPEGImages/000001.jpg   ──▶ FileSource ──┐
                                     └──▶ Annotations/000001.xml  ──▶ BoxTable  ───┴─▶ BoxedFiles

VOC counts pixels from 1, and the last one of a box is inside it: xmin to xmax is xmin - 1 to xmax of the continuous
coordinates used here. Objects marked `difficult` are kind 2. A document type, which is what entities are declared in,
is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.parsers import expat

from robust_compress.data import boxes, layout
from robust_compress.data.boxes import Annotated, BoxedFiles, BoxTable
from robust_compress.data.files import SUFFIXES, File, FileSource, check_unique, contents_of, inside, located, read_file
from robust_compress.types import DataError

_MAX_BYTES = 1 << 20  # of an XML file or a list of names
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(split: str, data_dir: Path, path: str = "", classes: str = "voc20") -> BoxedFiles:
  """`path/ImageSets/Main/SPLIT.txt`, as in VOCdevkit/VOC2007: 'test', 'trainval'. Split 'all': every picture there is.

  classes: of a set in VOC's layout with others; a class list, or a text file with a name a line.

  Raises:
    DataError: naming the file, for a name without a picture or without annotations, annotations that are no such XML,
      a class that is not among `classes`, a name that stands twice.
  """
  root = located("voc", path, data_dir)
  names = layout.class_names("voc", root, classes)
  pictures = layout.by_name(layout.folder_of("voc", root, "JPEGImages", "all"), SUFFIXES)
  files, annotated = [], []
  for name in sorted(pictures) if split == "all" else _listed(root, split):
    if name not in pictures:
      raise DataError(f"voc: {split} names {name!r}, and there is no such picture in {root / 'JPEGImages'}")
    files.append(File(name, pictures[name]))
    annotated.append(_annotated(inside(root, f"Annotations/{name}.xml", "voc"), names, pictures[name]))
  return BoxedFiles(FileSource(tuple(files)), BoxTable.of(annotated), names)


def _listed(root: Path, split: str) -> list[str]:
  """The names of a split, in its order."""
  file = root / "ImageSets" / "Main" / f"{split}.txt"
  if not file.is_file():
    raise DataError(f"voc: no split {split!r} in {root}; {contents_of(file.parent)}")
  names = layout.text_of(inside(root, f"ImageSets/Main/{split}.txt", "voc"), _MAX_BYTES).split("\n")
  names = [name.strip() for name in names if name.strip()]
  for name in names:
    if " " in name:
      raise DataError(f"{file}: {name[:60]!r}; expected a name a line, and no list of one class")
  check_unique(names, f"{file}: ")
  return names


def _annotated(file: Path, classes: tuple[str, ...], picture: Path) -> Annotated:
  size, objects = _parsed(file)
  labels, corners, kinds = [], [], []
  for position, fields in enumerate(objects):
    where = f"{file}, object {position + 1}"
    name = fields.get("name", "")
    if not name or name not in classes:
      raise DataError(
        f"{where}: class {name[:60]!r} is not among the {len(classes)} expected; name them by classes=FILE"
      )
    numbers = [layout.number_of(fields.get(corner, "")) for corner in _CORNERS]
    left, top, right, bottom = (math.nan if number is None else number for number in numbers)
    if None in numbers:
      raise DataError(f"{where}: its box is {[fields.get(corner) for corner in _CORNERS]}; expected four numbers")
    corners.append((left - 1, top - 1, right, bottom))
    labels.append(classes.index(name))
    kinds.append(boxes.DIFFICULT if fields.get("difficult", "0") == "1" else boxes.OBJECT)
  shape = _size(size) or layout.size_of(picture, str(picture))
  return Annotated(shape, corners, labels, kinds, [math.nan] * len(labels), str(file))


def _size(fields: dict[str, str]) -> tuple[int, int] | None:
  """(h, w) as the file says; some tools leave it out, or write zeros."""
  texts = [fields.get(side, "") for side in ("height", "width")]
  height, width = (int(text) if text.isdecimal() and len(text) < 7 else 0 for text in texts)
  return (height, width) if height and width else None


def _parsed(file: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
  """Fields of the size, and of each object; the parts of an object, which have boxes too, are left out."""
  size: dict[str, str] = {}
  objects: list[dict[str, str]] = []
  path: list[str] = []

  def start(tag: str, _: dict[str, str]) -> None:
    path.append(tag)
    if len(path) == 2 and tag == "object":
      objects.append({})

  def text(found: str) -> None:
    if len(path) == 3 or (len(path) == 4 and path[2] == "bndbox"):
      fields = {"size": size, "object": objects[-1] if objects else {}}.get(path[1], {})
      fields[path[-1]] = fields.get(path[-1], "") + found

  def refused(*_: object) -> None:
    raise DataError(f"{file}: has a document type; expected plain XML without declarations")

  parser = expat.ParserCreate()
  parser.buffer_text = True
  parser.StartElementHandler, parser.EndElementHandler = start, lambda _: path.pop()
  parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refused
  data = read_file(file, _MAX_BYTES)
  try:
    parser.Parse(data, True)
  except expat.ExpatError as error:
    raise DataError(f"{file}: not an XML file ({error})") from error
  except (ValueError, LookupError) as error:  # of several bytes a character, as GBK and Shift_JIS; of no name known
    raise DataError(f"{file}: its encoding cannot be read ({error}); save it as UTF-8") from error
  return _stripped(size), [_stripped(fields) for fields in objects]


def _stripped(fields: dict[str, str]) -> dict[str, str]:
  return {key: text.strip() for key, text in fields.items()}
