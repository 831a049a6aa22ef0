"""Pictures with boxes as COCO has them: one JSON file for all annotations of a split.

    annotations/instances_val2017.json ──▶ images, categories, annotations ──▶ BoxTable
    val2017/000000000139.jpg           ──▶ FileSource                     ──┴─▶ BoxedFiles

Classes are the categories in the order of their ids; it is by name that they meet a model's list. Pictures stand in the
order of their ids, those without objects among them. A crowd (`iscrowd`) is kind 1, and what is marked `ignore` kind 2.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from robust_compress.data import boxes, layout
from robust_compress.data.boxes import Annotated, BoxedFiles, BoxTable
from robust_compress.data.files import File, FileSource, inside, listed, located, read_file
from robust_compress.types import DataError

MAX_BYTES = 512 << 20  # of a JSON file; COCO's largest has 450 million
MAX_VALUES = 1 << 25  # in one, polygons left out; 110 bytes of memory each at worst; COCO's largest has 19 million
_MAX_POLYGONS = 1 << 22  # that are left out, as each takes 200 bytes meanwhile; COCO's largest has 860 thousand
# A list in an object, up to where the next key stands or the object ends. No text holds it: its quotes are escaped.
_POLYGONS = re.compile(rb'"(?:segmentation|counts)"\s*:\s*\[[^"{}]*\]')
_MAX_SIDE, _MAX_NUMBER = 1 << 20, 1e9
_USED = {
  *("images", "categories", "annotations", "id", "file_name", "height", "width", "name"),
  *("image_id", "category_id", "bbox", "area", "iscrowd", "ignore"),
}
_WORDS = {int: "a whole number", (int, float): "a number", str: "a text", list: "a list"}


def coco(
  split: str, data_dir: Path, path: str = "", file: str = "annotations/instances_split.json", images: str = "split"
) -> BoxedFiles:
  """`path/annotations/instances_SPLIT.json` with pictures in `path/SPLIT`: 'val2017', 'train2017'.

  Laid out in another way: file=annotations.json,images=pictures and split 'all'. In both, the word split stands for it.

  Raises:
    DataError: naming the file and the entry, for a file that is no such JSON, larger than MAX_BYTES, or of more than
      MAX_VALUES; for ids that stand twice; annotations of a picture or a category that is not there; pictures outside
      the folder.
  """
  root = located("coco", path, data_dir)
  table = layout.file_of("coco", root, file, split)
  folder = layout.folder_of("coco", root, images, split)
  content = _parsed(table)
  categories = _by_id(content, "categories", table)
  classes = tuple(_field(categories[id], "name", str, f"{table}: category {id}") for id in sorted(categories))
  if len(set(classes)) < len(classes):
    raise DataError(f"{table}: two categories have one name; expected {len(classes)} names")
  pictures = _by_id(content, "images", table)
  annotated = {id: _empty(pictures[id], f"{table}: image {id}") for id in sorted(pictures)}
  _fill(annotated, content, {id: label for label, id in enumerate(sorted(categories))}, table)
  there = {entry.name for entry in listed(folder, root)}  # none of them a link that leads out
  files = {id: _file(pictures[id], folder, there, f"{table}: image {id}") for id in annotated}
  owners: dict[str, int] = {}
  for id, file in files.items():
    if owners.setdefault(file.id, id) != id:
      raise DataError(f"{table}: images {owners[file.id]} and {id} are one file, {file.id}; expected a file an image")
  return BoxedFiles(FileSource(tuple(files.values())), BoxTable.of(annotated.values()), classes)


def _parsed(table: Path) -> dict[str, Any]:
  data = _POLYGONS.sub(b'"":0', read_file(table, MAX_BYTES), _MAX_POLYGONS)  # most of COCO's bytes, of use to no box
  _check_values(data, table)
  try:
    content = json.loads(data, object_pairs_hook=_used)
  except (ValueError, RecursionError) as error:
    raise DataError(f"{table}: not a JSON file in UTF-8 ({error})") from error
  if not isinstance(content, dict):
    raise DataError(f"{table}: expected COCO's object of images, annotations and categories")
  return content


def _check_values(data: bytes, table: Path) -> None:
  """Before anything is parsed, since values take memory by how many they are: `[]` 22 times the bytes of the file."""
  n_values = sum(map(data.count, (b",", b":", b"[", b"{")))  # one of them is before every key and every value
  if n_values > MAX_VALUES:
    raise DataError(
      f"{table}: {n_values} keys and values beside polygons; at most {MAX_VALUES} are read, since each takes memory. "
      "Is it what it should be? Leave out what is not used, or make several files of it, of some of the images each"
    )


def _used(fields: list[tuple[str, Any]]) -> dict[str, Any]:
  """Of an object of the file, what is used: addresses, licences and what else there is would take memory too."""
  return {key: value for key, value in fields if key in _USED}


def _by_id(content: dict[str, Any], key: str, table: Path) -> dict[int, dict[str, Any]]:
  """{id: entry} of a list of the file. Raises DataError for an id that stands twice."""
  found: dict[int, dict[str, Any]] = {}
  for position, entry in enumerate(_field(content, key, list, str(table))):
    id = _field(entry, "id", int, f"{table}: {key}[{position}]")
    if id in found:
      raise DataError(f"{table}: {key}[{position}] has the id {id}, which stands before it; ids must be unique")
    found[id] = entry
  return found


def _field(entry: Any, key: str, kind: Any, where: str) -> Any:
  value = entry.get(key) if isinstance(entry, dict) else None
  if isinstance(value, bool) or not isinstance(value, kind):
    raise DataError(f"{where}: {key} is {str(value)[:60]!r}; expected {_WORDS[kind]}")
  return value


def _empty(picture: dict[str, Any], where: str) -> Annotated:
  size = tuple(_field(picture, key, int, where) for key in ("height", "width"))
  if not all(0 < side < _MAX_SIDE for side in size):
    raise DataError(f"{where}: {size[1]}x{size[0]} is no size of a picture")
  return Annotated((size[0], size[1]), [], [], [], [], where)


def _file(picture: dict[str, Any], folder: Path, there: set[str], where: str) -> File:
  name = _field(picture, "file_name", str, where)
  return File(name, folder / name if name in there else inside(folder, name, where))


def _fill(annotated: dict[int, Any], content: dict[str, Any], labels: dict[int, int], table: Path) -> None:
  """Appends every annotation to those of its picture."""
  for id, entry in _by_id(content, "annotations", table).items():
    where = f"{table}: annotation {id}"
    picture, category = (_field(entry, key, int, where) for key in ("image_id", "category_id"))
    for kind, known, number in (("image", annotated, picture), ("category", labels, category)):
      if number not in known:
        raise DataError(f"{where} is of {kind} {number}, which the file does not have")
    x, y, width, height = _numbers(entry, where)
    objects = annotated[picture]
    objects.boxes.append((x, y, x + width, y + height))
    objects.labels.append(labels[category])
    objects.kinds.append(boxes.CROWD if entry.get("iscrowd") else boxes.DIFFICULT * bool(entry.get("ignore")))
    objects.areas.append(_field(entry, "area", (int, float), where) if "area" in entry else math.nan)
    if "area" in entry and not 0 <= entry["area"] < _MAX_NUMBER**2:
      raise DataError(f"{where}: area {entry['area']} is none")


def _numbers(entry: dict[str, Any], where: str) -> list[float]:
  """x, y, width and height."""
  box = _field(entry, "bbox", list, where)
  if len(box) != 4 or not all(type(value) in (int, float) and abs(value) < _MAX_NUMBER for value in box):
    raise DataError(f"{where}: bbox is {str(box)[:60]}; expected x, y, width and height in pixels")
  return box
