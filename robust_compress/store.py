"""Where results live: one small file a row, written whole or not at all.

    workdir/rows/<cell key>.json            a Row                       ─┐
    workdir/rows/archive/<key>.<n>.json     what --replace put aside     ├─ write_rows ─▶ rows.jsonl, rows.parquet
    workdir/records/<cell key>.npz          per-example records, ids and bootstrap replicates of the same cell
    workdir/records/archive/<key>.<n>.npz   those of the archived row
    workdir/.lock                           held while a command writes here

A row is looked up by its cell and guarded by its fingerprint: the same cell measured under other conditions is an
error that shows both, never a silent overwrite. How files stay whole when a process is killed is in `files.py`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from robust_compress import specs
from robust_compress.files import lock, read_records, replacing, write_atomic, write_records
from robust_compress.types import Cell, Row, StoreError

__all__ = ["Store", "flatten", "load_rows", "lock", "write_atomic", "write_rows"]


class Store:
  """The rows and records of one workdir. Reads may run beside a writer; writers hold `lock(workdir)`."""

  def __init__(self, workdir: epath.PathLike):
    self.workdir = epath.Path(workdir)

  def row_path(self, cell: Cell) -> epath.Path:
    return self.workdir / "rows" / f"{specs.cell_key(cell)}.json"

  def records_path(self, cell: Cell) -> epath.Path:
    return self.workdir / "records" / f"{specs.cell_key(cell)}.npz"

  def row(self, cell: Cell) -> Row | None:
    path = self.row_path(cell)
    return _read_row(path) if path.exists() else None

  def rows(self) -> list[Row]:
    """All rows, in the order of their keys."""
    return load_rows(self.workdir / "rows") if (self.workdir / "rows").exists() else []

  def missing(
    self,
    cells: Iterable[Cell],
    fingerprints: Callable[[Cell], Mapping[str, str]] | None = None,
    replace: bool = False,
  ) -> list[Cell]:
    """Cells without a row, in order, each once.

    Args:
      cells: what is asked for.
      fingerprints: what a new row of a cell would carry, as far as it is known; compared on the fields it names.
      replace: cells whose fingerprint differs count as missing, instead of being an error.

    Raises:
      StoreError: a row with another fingerprint; shows the fields that differ, old and new.
    """
    absent = []
    for cell in dict.fromkeys(cells):
      row = self.row(cell)
      if row is None:
        absent.append(cell)
      elif fingerprints is not None:
        new = fingerprints(cell)
        known = {name: value for name, value in row.fingerprint.items() if name in new}
        if known != dict(new):
          if not replace:
            raise StoreError(_contradiction(cell, known, new, self.row_path(cell)))
          absent.append(cell)
    return absent

  def put(self, row: Row, replace: bool = False) -> None:
    """Stores a row. One with the same fingerprint is overwritten; with `replace` the old one goes to the archive.

    Raises:
      StoreError: the stored row has another fingerprint; shows both.
    """
    old, path = self.row(row.cell), self.row_path(row.cell)
    if old is not None and replace:
      self._archive(path)
    elif old is not None and old.fingerprint != row.fingerprint:
      raise StoreError(_contradiction(row.cell, old.fingerprint, row.fingerprint, path))
    write_atomic(path, _dumps(specs.row_to_json(row), indent=2).encode() + b"\n")

  def _archive(self, path: epath.Path) -> None:
    """A copy, so that a kill between archiving and replacing leaves the old row in force."""
    write_atomic(path.parent / "archive" / f"{path.stem}.{self._n_archived(path)}.json", path.read_bytes())

  def _n_archived(self, path: epath.Path) -> int:
    """How often a row was replaced."""
    return sum(1 for _ in (path.parent / "archive").glob(f"{path.stem}.*.json"))

  def put_records(
    self,
    cell: Cell,
    ids: Sequence[str],
    records: Mapping[str, np.ndarray],
    replicates: Mapping[str, np.ndarray] | None = None,
    replace: bool = False,
  ) -> None:
    """Keeps what a row was computed from. Comes before the row: a row promises that its records are there.

    With `replace`, those of the row that stands are archived under the number that it will get.
    """
    path = self.records_path(cell)
    if replace and self.row_path(cell).exists() and path.exists():
      archived = path.parent / "archive" / f"{path.stem}.{self._n_archived(self.row_path(cell))}.npz"
      if not archived.exists():  # else a kill came between records and row, and these are already the new ones
        write_atomic(archived, path.read_bytes())
    write_records(self.records_path(cell), ids, records, replicates)

  def records(self, cell: Cell) -> tuple[list[str], dict[str, np.ndarray]]:
    """(ids, records) as they were put. Raises StoreError where there are none, or the file is damaged."""
    return read_records(self.records_path(cell))[:2]

  def replicates(self, cell: Cell) -> dict[str, np.ndarray]:
    """{metric: float[r]}; empty where none were put."""
    return read_records(self.records_path(cell))[2]


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
  """The conditions of today, `new`, that were others when something was made."""
  return [f"{name} {old.get(name, 'unknown')} there, {new[name]} now" for name in new if old.get(name) != new[name]]


def _contradiction(cell: Cell, old: Mapping[str, str], new: Mapping[str, str], path: epath.Path) -> str:
  differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
  what = f"{cell.model} on {cell.data} at {cell.test} (target {cell.target})"
  lines = [f"{what}: {path} was measured under other conditions:"]
  lines += [f"  {name}: stored {old.get(name, 'nothing')}, now {new.get(name, 'nothing')}" for name in differing]
  lines += ["give --replace to measure it again (the stored row is archived), or use another workdir"]
  return "\n".join(lines)


# ---------------------------------------------------------------------------------------- rows in files


def load_rows(path: epath.PathLike) -> list[Row]:
  """Rows of a workdir, of a folder of .json and .jsonl files, or of one such file (.parquet with pyarrow)."""
  path = epath.Path(path)
  if path.is_dir():
    path = path / "rows" if (path / "rows").is_dir() else path
    files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl") and file.name[0] != ".")
    return [row for file in files for row in load_rows(file)]
  if not path.exists():
    raise StoreError(f"{path}: no such file or folder; expected a workdir, a .jsonl file or a row's .json file")
  if path.suffix == ".json":
    return [_read_row(path)]
  lines = _pyarrow().read_table(os.fspath(path))["row"].to_pylist() if path.suffix == ".parquet" else _lines(path)
  return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def write_rows(path: epath.PathLike, rows: Sequence[Row]) -> None:
  """Rows as JSONL, one canonical line each, or as Parquet with a column a number and the whole row as JSON."""
  path = epath.Path(path)
  if path.suffix == ".jsonl":
    write_atomic(path, "".join(_dumps(specs.row_to_json(row)) + "\n" for row in rows).encode())
  elif path.suffix == ".parquet":
    parquet = _pyarrow()
    with replacing(path) as file:
      parquet.write_table(_table([flatten(row) for row in rows]), file)
  else:
    raise StoreError(f"{path}: rows are written to a file whose name ends in .jsonl or .parquet")


def flatten(row: Row) -> dict[str, Any]:
  """A row as one flat record of plain values, for a data frame: 'top1', 'top1_low', 'top1_high', 'bpp', …"""
  cell = row.cell
  flat: dict[str, Any] = {"key": specs.cell_key(cell), "task": cell.task, "model": cell.model, "data": cell.data}
  flat |= {"codec": cell.test.codec, "test": str(cell.test), "target": cell.target}
  flat |= {"weights": specs.weights_key(cell.weights), "trained_on": " ".join(map(str, cell.weights.points))}
  flat |= {name: getattr(row, name) for name in ("n", "n_skipped", "n_bytes", "n_pixels", "bpp", "bpp_mean", "wall_s")}
  for name, value in row.metrics.items():
    low, high = row.intervals.get(name, (None, None))
    flat |= {name: value, f"{name}_low": low, f"{name}_high": high}
  return {**flat, "row": _dumps(specs.row_to_json(row))}


def _table(records: Sequence[Mapping[str, Any]]) -> Any:
  import pyarrow

  names = list(dict.fromkeys(name for record in records for name in record))
  return pyarrow.table({name: [record.get(name) for record in records] for name in names})


def _pyarrow() -> Any:
  try:
    import pyarrow.parquet
  except ImportError as error:
    raise StoreError("Parquet needs pyarrow; install it (pip install pyarrow), or use a .jsonl file") from error
  return pyarrow.parquet


def _lines(path: epath.Path) -> list[str]:
  return [line for line in path.read_text().splitlines() if line.strip()]


def _read_row(path: epath.Path) -> Row:
  return _row(path.read_text(), str(path))


def _row(text: str, where: str) -> Row:
  try:
    return specs.row_from_json(json.loads(text))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise StoreError(f"{where} is not a row ({error!r}); remove it and run the command that made it again") from error


def _dumps(value: Any, indent: int | None = None) -> str:
  return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
  """numpy scalars as numbers, and what is not finite as null: JSON that every reader takes."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if isinstance(value, (np.generic, np.ndarray)):
    return _plain(value.tolist())
  return None if isinstance(value, float) and not math.isfinite(value) else value
