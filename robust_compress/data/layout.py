"""Where the parts of an annotated data set lie in its folder, and what its classes are called.

    images=images/split, split 'val' ──folder_of──▶ root/images/val

In the options that name a place, the word `split` stands for the split's name; under split 'all' it stands for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from robust_compress.data import labels
from robust_compress.data.files import contents_of, inside, read_file
from robust_compress.data.picture_folders import below
from robust_compress.types import DataError, SpecError

SPLIT = "split"
_MAX_NAMES = 1 << 20  # bytes of a file of class names


def placed(kind: str, place: str, split: str) -> str:
  """What a place is called under a split. Raises DataError where it has none, and one is asked for."""
  if split != "all" and SPLIT not in place:
    raise DataError(f"{kind}: {place} has the one split 'all', not {split!r}; where it has several, write split for it")
  return str(place).replace(SPLIT, "" if split == "all" else split).strip("/")


def folder_of(kind: str, root: Path, place: str, split: str) -> Path:
  """A folder of a data set. Raises DataError where it is not there, or leads out of `root`."""
  name = placed(kind, place, split)
  folder = inside(root, name, kind) if name else root
  if not folder.is_dir():
    raise DataError(f"{kind}: no folder {folder}; {contents_of(folder.parent)}")
  return folder


def file_of(kind: str, root: Path, place: str, split: str) -> Path:
  """A file of a data set. Raises DataError as `folder_of` does."""
  file = inside(root, placed(kind, place, split), kind)
  if not file.is_file():
    raise DataError(f"{kind}: no file {file}; {contents_of(file.parent)}")
  return file


def by_name(folder: Path, suffixes: Sequence[str], kind: str = "pictures") -> dict[str, Path]:
  """{'a/b': folder/a/b.png}: the files below a folder, by their names without ending.

  Raises DataError where there is none, and where two have one name.
  """
  found: dict[str, Path] = {}
  for path in below(folder, suffixes, kind):
    name = path.relative_to(folder).with_suffix("").as_posix()
    if name in found:
      raise DataError(f"{path}: has the name of {found[name]}; expected one file a name, whatever its ending")
    found[name] = path
  return found


def class_names(kind: str, root: Path, classes: str) -> tuple[str, ...]:
  """The names in label order: a list of `labels.CLASS_LISTS`, or a text file in the data set, one name a line.

  An empty line is a label that is not used.
  """
  if classes == "":
    raise SpecError(f"{kind} needs class names: classes=coco80 or another list, or a text file in {root}, one a line")
  if classes in labels.CLASS_LISTS:
    return labels.class_list(classes)
  file = inside(root, classes, kind)
  if not file.is_file():
    raise DataError(
      f"{kind}: classes={classes} is no file in {root} ({contents_of(root)}), nor among the lists "
      f"{', '.join(labels.CLASS_LISTS)}"
    )
  names = tuple(line.strip() for line in text_of(file, _MAX_NAMES).rstrip().splitlines())
  twice = sorted({name for name in names if name and names.count(name) > 1})
  if not names or twice:
    raise DataError(f"{file}: expected one class name a line; {f'twice: {twice[0]}' if twice else 'it is empty'}")
  return names


def text_of(file: Path, most: int) -> str:
  """A text in UTF-8 of at most so many bytes. Raises DataError naming the file."""
  try:
    return read_file(file, most).decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise DataError(f"{file}: not a text in UTF-8 ({error})") from error


def size_of(file: Path | IO[bytes], name: str) -> tuple[int, int]:
  """(h, w) by the header of a picture file; nothing is decoded."""
  try:
    with Image.open(file) as image:
      return image.height, image.width
  except Exception as error:  # a damaged file makes Pillow raise anything
    raise DataError(f"{name}: unreadable picture ({error})") from error


def differing(picture: str, size: Sequence[int], other: str, other_size: Sequence[int]) -> DataError:
  """The error for a picture and something else of it that is of another size."""
  sizes = [f"{width}x{height}" for height, width in (size, other_size)]
  return DataError(f"{picture} is {sizes[0]}, and {other} is of {sizes[1]}; expected one size, pixel for pixel")


def number_of(text: str) -> float | None:
  """A finite number in decimal form, of a size that a coordinate can have; None where it is none."""
  plain = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text.strip()) if len(text) < 40 else None
  value = float(plain[0]) if plain else float("nan")
  return value if abs(value) < 1e9 else None
