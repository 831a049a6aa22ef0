"""Picture files with class labels: a folder of class folders, or a folder with a labels csv.

    path/val/n01440764/a.jpg  ──folders──▶ FileSource ──read──▶ bytes ──decode_picture──▶ Picture
    path/labels.csv: file,wnid ──labels_csv──▲

A relative `path` is looked up in `data_dir` and may not climb out of it; an absolute one, or '~/…', is taken as the
user wrote it. What a data set itself says (file names in its csv, links in its folders) never leads out of its folder.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_compress.data import image_ops
from robust_compress.specs import format_value, key_of
from robust_compress.types import DataError, Picture, SpecError

SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_CLASSES = 100_000  # a csv label above this is taken for a mistake
ALL_CONTENTS, SAMPLED_CONTENTS = 5_000, 1_000  # up to so many files a fingerprint reads all, else so many of them


@dataclasses.dataclass(frozen=True)
class File:
  """One example of a FileSource. `label` is None where it has no class."""

  id: str
  path: Path
  label: int | None = None


@dataclasses.dataclass(frozen=True)
class FileSource:
  """Picture files with class labels, read when asked for. `n_bytes` of a picture is its file's size."""

  files: tuple[File, ...]
  classes: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    check_unique(self.ids)

  @functools.cached_property
  def ids(self) -> tuple[str, ...]:
    return tuple(file.id for file in self.files)

  def __len__(self) -> int:
    return len(self.files)

  def id(self, index: int) -> str:
    return self.files[index].id

  def target(self, index: int) -> dict[str, np.ndarray]:
    """{'label': int32[]}, or {} where it has none."""
    label = self.files[index].label
    return {} if label is None else {"label": np.asarray(label, np.int32)}

  def picture(self, index: int) -> Picture:
    data = self.read(index)
    return Picture(image_ops.decode_picture(data, str(self.files[index].path)), len(data))

  def read(self, index: int) -> bytes:
    """The file as it is."""
    return read_file(self.files[index].path)

  def sliced(self, start: int, stop: int) -> FileSource:
    return dataclasses.replace(self, files=self.files[start:stop])

  def fingerprint(self) -> str:
    """Hash of ids, labels, classes, file sizes and contents.

    Contents: of every file where there are at most ALL_CONTENTS, else of SAMPLED_CONTENTS evenly spaced ones. Computed
    once a process for as long as no file's size or time changes.
    """
    stats = [stat_of(file.path) for file in self.files]
    return _fingerprint(self, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.lru_cache(maxsize=64)
def _fingerprint(source: FileSource, stats: tuple[tuple[int, int], ...]) -> str:
  examples = [[file.id, file.label, size] for file, (size, _) in zip(source.files, stats, strict=True)]
  contents = [hashlib.sha256(source.read(index)).hexdigest() for index in sampled(len(source))]
  return key_of([examples, source.classes, contents])


def sampled(n: int) -> Sequence[int]:
  """Indices of the examples whose contents a fingerprint reads."""
  return range(n) if n <= ALL_CONTENTS else np.linspace(0, n - 1, SAMPLED_CONTENTS).astype(int).tolist()


def read_file(path: Path, most: int | None = None) -> bytes:
  """A file as it is. Raises DataError where it cannot be read, or has more than `most` bytes, before any is read."""
  n_bytes = 0 if most is None else stat_of(path).st_size
  if most is not None and n_bytes > most:
    raise DataError(f"{path}: {n_bytes} bytes; at most {most} are read. Is it what it should be?")
  try:
    return path.read_bytes()
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def stat_of(path: Path) -> os.stat_result:
  """Size and times of a file. Raises DataError where it cannot be read."""
  try:
    return path.stat()
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def check_unique(ids: Sequence[str], where: str = "") -> None:
  """Raises DataError naming ids that stand twice: everything measured is paired by id. `where`: 'a.csv: '."""
  if len(set(ids)) < len(ids):
    seen: set[str] = set()
    twice = sorted({id for id in ids if id in seen or seen.add(id)})
    more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
    raise DataError(f"{where}ids must be unique; more than once stand {', '.join(twice[:5])}{more}. Leave one of each")


# --------------------------------------------------------------------------------------------- folders


def folders(split: str, data_dir: Path, path: str = "") -> FileSource:
  """`path/split/class/picture`; split 'all' is `path/class/picture`. Classes are the folders in sorted order.

  An empty class folder counts as a class, so that splits can be given the same classes. Ids are 'class/picture'.
  """
  root = located("folders", path, data_dir)
  top = root if split == "all" else root / split
  if not top.is_dir():
    raise DataError(f"folders: no split {split!r} in {root}; {contents_of(root)}")
  check_inside(top, root)
  classes = [entry.name for entry in listed(top, root) if entry.is_dir()]
  files = [
    File(f"{name}/{entry.name}", Path(entry.path), label)
    for label, name in enumerate(classes)
    for entry in listed(top / name, root)
    if entry.name.lower().endswith(SUFFIXES) and entry.is_file()
  ]
  if not files:
    raise DataError(f"folders: no pictures in class folders of {top}; {contents_of(top)}")
  return FileSource(tuple(files), tuple(classes))


def listed(folder: Path, root: Path) -> list[os.DirEntry]:
  """What is in a folder, sorted by name, hidden files left out. A link that leads out of `root` is refused."""
  try:
    with os.scandir(folder) as found:
      entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
  except OSError as error:
    raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
  for entry in entries:
    if entry.is_symlink():
      check_inside(Path(entry.path), root)
  return entries


# ------------------------------------------------------------------------------------------------- csv


def labels_csv(split: str, data_dir: Path, path: str = "", file: str = "labels.csv") -> FileSource:
  """A folder with a csv of columns `file` and `wnid` (any class name) or `label` (an integer from 0) or both.

  With `wnid` alone, classes are the names in sorted order. With `label` alone there are no class names, and labels are
  taken to follow the model's list. With both, classes[label] is the name, '' where the file has no example of a label.
  """
  root = located("csv", path, data_dir)
  if split != "all":
    raise DataError(f"csv: {root} has the one split 'all', not {split!r}; use a slice, as in :all[:100]")
  table = inside(root, file, "csv")
  rows = _rows(table)
  wheres = [f"{table}, line {line}" for line in range(2, 2 + len(rows))]
  labels = [_label(row["label"], where) for row, where in zip(rows, wheres)] if "label" in rows[0] else None
  classes, labels = _classes([row["wnid"] for row in rows] if "wnid" in rows[0] else None, labels, table)
  check_unique([row["file"] for row in rows], f"{table}: ")
  paths = [inside(root, row["file"], where) for row, where in zip(rows, wheres)]
  return FileSource(tuple(map(File, (row["file"] for row in rows), paths, labels)), classes)


def _rows(table: Path) -> list[dict[str, str]]:
  try:
    with table.open(newline="", encoding="utf-8-sig") as stream:
      rows = list(csv.DictReader(stream, skipinitialspace=True))
  except OSError as error:
    raise DataError(f"csv: no {table.name} in {table.parent}; {contents_of(table.parent)}") from error
  except (UnicodeDecodeError, csv.Error) as error:
    raise DataError(f"{table}: not a csv in UTF-8 ({error})") from error
  if not rows:
    raise DataError(f"{table}: empty; expected a header and one line a picture")
  columns = [name for name in rows[0] if name is not None]
  if "file" not in columns or not {"wnid", "label"} & set(columns):
    raise DataError(f"{table}: columns are {', '.join(columns)}; expected 'file' and 'wnid' or 'label' or both")
  for line, row in enumerate(rows, 2):
    if None in row or None in row.values():
      raise DataError(f"{table}, line {line}: expected {len(columns)} fields")
  return rows


def _label(text: str, where: str) -> int:
  if not (text.strip().isdecimal() and int(text) < MAX_CLASSES):
    raise DataError(f"{where}: label {text!r} is out of range; expected an integer from 0 to {MAX_CLASSES - 1}")
  return int(text)


def _classes(names: list[str] | None, labels: list[int] | None, table: Path) -> tuple[tuple[str, ...], list[int]]:
  """(class names in label order, labels)."""
  if names is None:
    return (), labels
  if labels is None:
    index = {name: position for position, name in enumerate(sorted(set(names)))}
    return tuple(index), [index[name] for name in names]
  pairs = set(zip(labels, names, strict=True))
  by_label = dict(pairs)
  if not len(pairs) == len(by_label) == len(set(names)):
    raise DataError(f"{table}: label and wnid disagree; expected one wnid a label and one label a wnid")
  return tuple(by_label.get(label, "") for label in range(max(labels) + 1)), labels


# --------------------------------------------------------------------------------------------- places


def located(kind: str, path: Any, data_dir: Path) -> Path:
  """The folder of a data set: `path` inside data_dir, or absolute as the user wrote it."""
  if path == "":
    raise SpecError(f"{kind} needs a folder, as in {kind}(path=pictures):all")
  written = Path(path if isinstance(path, str) else format_value(path)).expanduser()
  root = (data_dir / written).absolute()
  if not written.is_absolute() and ".." in written.parts:
    raise DataError(f"{kind}: path {str(written)!r} leads out of {data_dir}; write an absolute path to mean that")
  if not root.is_dir():
    raise DataError(f"{kind}: no folder {root}; {contents_of(root.parent)}")
  return root


def inside(root: Path, name: str, where: str) -> Path:
  """`root / name`, where name comes from a data set: it may not be absolute or lead out of root, links included."""
  path = Path(name)
  if not name or path.is_absolute() or ".." in path.parts:
    raise DataError(f"{where}: file {name!r} leads out of {root}; expected a path relative to it")
  check_inside(root / path, root)
  return root / path


def check_inside(path: Path, root: Path) -> None:
  """Raises DataError where `path`, links followed, is not below `root`."""
  try:
    inside = path.resolve().is_relative_to(root.resolve())
    with contextlib.suppress(FileNotFoundError):
      path.stat()  # fails where links lead in a circle; from Python 3.13 on, resolve does not
  except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a name that no file can have
    raise DataError(f"{str(path)!r}: not a path that can be followed ({error})") from error
  if not inside:
    raise DataError(f"{path}: a link that leads out of {root}; copy the file there, or name the folder it is in")


def contents_of(folder: Path) -> str:
  """What is there instead, for an error message."""
  if not folder.is_dir():
    return f"there is no {folder} either"
  names = sorted(os.listdir(folder))
  more = f" and {len(names) - 8} more" if len(names) > 8 else ""
  return f"{folder} has {', '.join(names[:8]) or 'nothing'}{more}"
