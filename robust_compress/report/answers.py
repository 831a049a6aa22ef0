"""What models find in the example pictures: kept while they are evaluated, drawn over the pictures by `overlays.py`.

    answers/<model and data>/classes.json               names of the model's labels, in order
    answers/<model and data>/<weights and point>-<picture>.npz

A file holds what was found in one picture, and the truth where there is one, each as `overlays.drawn` takes it. Of
several hosts each keeps those of the pictures that it sees. Names of folders and files are hashes: models, data and
pictures are called as somebody else likes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robust_compress import specs
from robust_compress.store import write_atomic
from robust_compress.types import Cell, DataError

Objects = Mapping[str, np.ndarray]  # boxes with their labels, or the class of each pixel


class Answer(NamedTuple):
  """Of one picture."""

  found: Objects
  truth: Objects  # {} where nobody said


def folder_of(directory: str | os.PathLike[str], model: str, data: str) -> Path:
  """Of all answers of a model on a data set, whose labels mean the same classes."""
  return Path(directory) / specs.key_of([model, data])


def save_answer(directory: str | os.PathLike[str], cell: Cell, id: str, answer: Answer) -> None:
  """Keeps what the cell's weights find in picture `id` at the cell's point, in place of what was there."""
  arrays = {f"{part}/{name}": value for part in Answer._fields for name, value in getattr(answer, part).items()}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  write_atomic(_path(directory, cell, id), buffer.getvalue())


def load_answer(directory: str | os.PathLike[str], cell: Cell, id: str) -> Answer | None:
  """None where none was kept. Raises DataError for a file that cannot be read."""
  path = _path(directory, cell, id)
  if not path.exists():
    return None
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
  except Exception as error:  # a damaged archive fails in as many ways as it has bytes
    raise DataError(f"{path} is damaged ({error!r}); delete it, and the report goes without it") from error
  return Answer(*({name: arrays[f"{part}/{name}"] for name in _names(arrays, part)} for part in Answer._fields))


def save_classes(directory: str | os.PathLike[str], model: str, data: str, classes: Sequence[str]) -> None:
  """Keeps the names of labels, unless they are there."""
  path, text = folder_of(directory, model, data) / "classes.json", json.dumps(list(classes), ensure_ascii=False)
  if not path.exists() or path.read_bytes() != text.encode():
    write_atomic(path, text.encode())


def load_classes(directory: str | os.PathLike[str], model: str, data: str) -> list[str]:
  """Names in the order of labels; [] where none were kept. Raises DataError for a file that is no list of names."""
  path = folder_of(directory, model, data) / "classes.json"
  if not path.exists():
    return []
  try:
    return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
  except (ValueError, TypeError) as error:
    raise DataError(f"{path} is no list of classes ({error}); delete it, and the report counts them") from error


def class_name(classes: Sequence[str], label: int) -> str:
  return classes[label] if 0 <= label < len(classes) and classes[label] else f"class {label}"


def _path(directory: str | os.PathLike[str], cell: Cell, id: str) -> Path:
  said_by = specs.key_of([specs.weights_key(cell.weights), str(cell.test)])
  return folder_of(directory, cell.model, cell.data) / f"{said_by}-{specs.key_of(id)}.npz"


def _names(arrays: Mapping[str, np.ndarray], part: str) -> list[str]:
  return [name.removeprefix(f"{part}/") for name in arrays if name.startswith(f"{part}/")]
