"""Example pictures of a report: a small folder that the compress stage writes and the page shows.

    examples/<data key>/index.json      [{id, original, n_bytes, label, decoded: [{point, file, n_bytes, psnr,
                                          prediction}]}]; predictions only where a model was asked
    examples/<data key>/000.png         the original, as the codec saw it
    examples/<data key>/000-jpeg-10.png what came back

File names are numbers and points, never ids: an id is somebody else's text. The index is written last, so a folder with
an index is whole.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from robust_compress import specs
from robust_compress.store import write_atomic
from robust_compress.types import DataError, Point


class DecodedExample(NamedTuple):
  """One picture after one codec."""

  point: Point
  pixels: np.ndarray  # uint8[h w 3]
  n_bytes: int
  prediction: str | None = None
  psnr: float | None = None  # of the whole picture, where the pixels are a part of it


class Example(NamedTuple):
  """One picture before and after."""

  id: str
  pixels: np.ndarray  # uint8[h w 3], as the codec saw it
  n_bytes: int | None  # of the source file; None where this view has no file
  label: str | None
  decoded: Sequence[DecodedExample]
  prediction: str | None = None


def data_key(data: str) -> str:
  """The folder of a data set's examples: a hash of its written form, which may hold any character."""
  return specs.key_of(data)


def psnr(a: np.ndarray, b: np.ndarray) -> float | None:
  """Peak signal-to-noise ratio in dB over all samples of uint8[h w 3]; None for equal pictures."""
  error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
  return None if error == 0 else float(10 * np.log10(255**2 / error))


def save_examples(directory: str | os.PathLike[str], data: str, examples: Sequence[Example]) -> Path:
  """Writes `examples` of `data` (its written form) under `directory`/<data key> and returns that folder.

  Safe to repeat and to interrupt: every file appears whole, the index last.
  """
  folder = Path(directory) / data_key(data)
  folder.mkdir(parents=True, exist_ok=True)
  index = [_save_one(folder, number, example) for number, example in enumerate(examples)]
  write_atomic(folder / "index.json", json.dumps(index, indent=1, ensure_ascii=False).encode())
  return folder


def load_examples(directory: str | os.PathLike[str], data: str) -> list[dict[str, Any]]:
  """The index of `data`'s examples with `file` and `original` as paths; [] where there are none.

  Raises:
    DataError: an index that is not JSON, or names a file outside its folder.
  """
  folder = Path(directory) / data_key(data)
  path = folder / "index.json"
  if not path.exists():
    return []
  try:
    index = json.loads(path.read_text())
    for entry in index:
      entry["original"] = _inside(folder, entry["original"])
      for decoded in entry["decoded"]:
        decoded["file"] = _inside(folder, decoded["file"])
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(
      f"{path} is no index of example pictures ({error}); delete the folder and compress again"
    ) from error
  return index


def _save_one(folder: Path, number: int, example: Example) -> dict[str, Any]:
  original = f"{number:03d}.png"
  write_atomic(folder / original, _png(example.pixels))
  decoded = []
  for one in example.decoded:
    file = f"{number:03d}-{re.sub(r'[^a-z0-9.]+', '-', str(one.point).lower()).strip('-')}.png"
    write_atomic(folder / file, _png(one.pixels))
    quality = psnr(example.pixels, one.pixels) if one.psnr is None else one.psnr
    entry = {"point": str(one.point), "file": file, "n_bytes": one.n_bytes, "psnr": quality}
    decoded.append(entry | ({} if one.prediction is None else {"prediction": one.prediction}))
  fields = {"id": example.id, "original": original, "n_bytes": example.n_bytes, "label": example.label}
  fields |= {} if example.prediction is None else {"prediction": example.prediction}
  return {**fields, "decoded": decoded}


def _inside(folder: Path, name: str) -> Path:
  if Path(name).name != name:
    raise ValueError(f"{name!r} is not a plain file name")
  return folder / name


def _png(pixels: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
  return buffer.getvalue()
