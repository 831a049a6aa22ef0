"""What `--pictures` and `--data` name: a folder with everything in it, or a data set under a view.

'holiday/'                           ──▶ every picture and video below it
'imagenet2012(resize=256):val[:50]'  ──▶ ViewedSource
"""

from __future__ import annotations

import os
from pathlib import Path

from robust_compress.data import files, picture_folders, sources
from robust_compress.data.clips import ClipFiles, Example
from robust_compress.inspect.clip_files import VIDEOS, readable
from robust_compress.specs import parse_data
from robust_compress.types import DataError, Source, SpecError


def open_pictures(text: str, data_dir: str | os.PathLike = "data") -> Source:
  """The examples of a folder, or of a data set in its written form (looked up in `data_dir`).

  Raises:
    DataError: neither is there, or nothing is in it.
  """
  folder = Path(text).expanduser()
  if folder.is_dir():
    return below(folder)
  try:
    data = parse_data(text)
  except SpecError as error:
    raise DataError(f"no folder {text!r}, and as a data set: {error}") from error
  return sources.ViewedSource(sources.open_source(data, data_dir), data.view)


def below(folder: Path) -> Source:
  """Every picture and video in a folder and in those it holds, in the order of their paths, hidden ones left out.

  Ids are paths from the folder on. Links to folders are not followed, and links to files that lead out are refused.
  """
  paths = picture_folders.below(folder, (*files.SUFFIXES, *VIDEOS), "pictures and no videos")
  ids = [path.relative_to(folder).as_posix() for path in paths]
  if any(path.suffix.lower() in VIDEOS for path in paths):
    return ClipFiles(tuple(Example(name, readable(path)) for name, path in zip(ids, paths)))
  return files.FileSource(tuple(map(files.File, ids, paths)))
