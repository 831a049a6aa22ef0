"""Picture files without labels: all that lie below one folder or several. What codecs are trained and tried on.

path=holiday            ──▶ every picture below holiday/, at any depth
path=holiday+scans/2020 ──▶ those of both folders
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from robust_compress.data.files import SUFFIXES, File, FileSource, check_inside, contents_of, located
from robust_compress.types import DataError


def pictures(split: str, data_dir: Path, path: str = "") -> FileSource:
  """Every picture below the folders of `path`, which '+' joins where it is in no folder's name.

  The one split is 'all'. No picture has a label.

  Ids are paths from the folder on, behind the folder's own where there are several.
  """
  if split != "all":
    raise DataError(f"pictures: {path} has the one split 'all', not {split!r}; use a slice, as in :all[:100]")
  names = _folders(str(path), data_dir)
  files = []
  for name in names:
    root = located("pictures", name, data_dir)
    front = f"{name}/" if len(names) > 1 else ""
    files += [File(f"{front}{file.relative_to(root).as_posix()}", file) for file in below(root, SUFFIXES)]
  return FileSource(tuple(files))


def _folders(path: str, data_dir: Path) -> list[str]:
  """The whole path, where that is a folder; or else its parts."""
  try:
    located("pictures", path, data_dir)
    return [path]
  except DataError:
    return path.split("+")


def below(folder: Path, suffixes: Sequence[str], kind: str = "pictures") -> list[Path]:
  """Files of these endings in a folder and in those it holds, in the order of their paths, hidden ones left out.

  Links to folders are not followed. Raises DataError where there is none, which `kind` is the word for, or where a link
  leads out.
  """
  found = []
  for directory, names, leaves in os.walk(folder):
    names[:] = [name for name in names if not name.startswith(".")]
    found += [Path(directory, leaf) for leaf in leaves if not leaf.startswith(".")]
  paths = sorted(path for path in found if path.suffix.lower() in suffixes)
  if not paths:
    raise DataError(f"{folder}: no {kind} in it; {contents_of(folder)}")
  for path in paths:
    check_inside(path, folder)
  return paths
