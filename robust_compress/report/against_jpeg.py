"""A learned codec against JPEG at equal bytes, picture by picture: a small folder that `evaluate` writes for a report.

    failures/<cell key>/pictures.json     one column a number, one value a picture, and what they depend on
    failures/<cell key>/<data key>/…      the worst pictures, as `examples.py` keeps them

`pictures.json` is written last, so a folder that has it is whole.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_compress import specs, statistics
from robust_compress.rate import TOLERANCE
from robust_compress.statistics import McNemar
from robust_compress.store import write_atomic
from robust_compress.types import Cell, DataError

FILE = "pictures.json"


@dataclass(frozen=True)
class Comparison:
  """Every picture of a test set, or of a sample of it, by a learned codec and by JPEG with as many bytes.

  `columns` are arrays [n]: 'id', 'n_pixels', 'level_jpeg', and of both codecs (JPEG's end in '_jpeg'): 'n_bytes';
  'psnr', in dB against what the codec saw, inf where nothing was lost; and where the task has such a thing 'right',
  whether the model is right about the decoded picture.
  """

  cell: Cell
  fingerprint: Mapping[str, str]  # of the cell's row, and of JPEG and the comparison
  n_test: int  # pictures of the test set, of which these are all or a sample
  columns: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.columns["id"])

  @functools.cached_property
  def equal(self) -> np.ndarray:
    """bool[n]: whether JPEG comes within 5 % of the learned codec's bytes. Other pictures count for nothing below."""
    return np.abs(self.columns["n_bytes_jpeg"] / self.columns["n_bytes"] - 1) <= TOLERANCE

  @functools.cached_property
  def difference(self) -> np.ndarray:
    """float[n], PSNR of the learned codec less JPEG's, in dB; 0 where both lost nothing."""
    learned, jpeg = self.columns["psnr"], self.columns["psnr_jpeg"]
    return np.subtract(learned, jpeg, out=np.zeros(len(self)), where=~(np.isinf(learned) & np.isinf(jpeg)))

  @functools.cached_property
  def beaten(self) -> np.ndarray:
    """bool[n]: JPEG has the higher PSNR with as many bytes."""
    return self.equal & (self.difference < 0)

  @property
  def has_answers(self) -> bool:
    return "right" in self.columns

  def answers(self, learned: bool, jpeg: bool) -> np.ndarray:
    """bool[n]: whether the model is right, or not, about the two codecs' pictures; False where nobody knows."""
    if not self.has_answers:
      return np.zeros(len(self), bool)
    return self.equal & (self.columns["right"] == learned) & (self.columns["right_jpeg"] == jpeg)

  def mcnemar(self) -> McNemar:
    """Of the model on the learned codec's pictures against the model on JPEG's."""
    return statistics.mcnemar(self.columns["right"][self.equal], self.columns["right_jpeg"][self.equal])

  def worst(self, n: int) -> list[int]:
    """Up to n failures: first where only JPEG keeps the right answer, then by how much JPEG is ahead in PSNR."""
    lost = self.answers(learned=False, jpeg=True)
    order = np.lexsort((self.columns["id"], self.difference, ~lost))
    return [int(i) for i in order if lost[i] or self.beaten[i]][:n]


def folder_of(directory: str | os.PathLike[str], cell: Cell) -> Path:
  return Path(directory) / specs.cell_key(cell)


def save_comparison(directory: str | os.PathLike[str], comparison: Comparison) -> None:
  columns = {name: _plain(values) for name, values in comparison.columns.items()}
  fields = {"cell": specs.cell_to_json(comparison.cell), "fingerprint": dict(comparison.fingerprint)}
  fields |= {"n_test": comparison.n_test, "columns": columns}
  text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
  write_atomic(folder_of(directory, comparison.cell) / FILE, text.encode())


def load_comparison(directory: str | os.PathLike[str], cell: Cell) -> Comparison | None:
  """None where there is none. Raises DataError for a file that is not one."""
  path = folder_of(directory, cell) / FILE
  if not path.exists():
    return None
  try:
    fields = json.loads(path.read_text())
    columns = {name: _array(name, values) for name, values in fields["columns"].items()}
    found = Comparison(cell, dict(fields["fingerprint"]), int(fields["n_test"]), columns)
    if len({len(found), *map(len, columns.values())}) > 1:
      raise ValueError("columns of unequal length")
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise DataError(f"{path} is no comparison with JPEG ({error!r}); delete its folder and evaluate again") from error
  return found


def _plain(values: np.ndarray) -> list[Any]:
  """JSON has no infinity: a picture that lost nothing has no PSNR."""
  return [None if isinstance(value, float) and np.isinf(value) else value for value in np.asarray(values).tolist()]


def _array(name: str, values: list[Any]) -> np.ndarray:
  if name.startswith("psnr"):
    return np.array([np.inf if value is None else value for value in values], np.float64)
  kind = {"id": str, "right": bool, "right_jpeg": bool, "level_jpeg": np.float64}.get(name, np.int64)
  return np.array(values, kind)
