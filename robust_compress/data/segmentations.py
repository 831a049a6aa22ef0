"""A class for every pixel: masks in picture files, whatever their values mean, beside pictures or clips.

    mask file ──read_mask, by a table of values──▶ uint8[h w] of classes, 255 where none counts ──▶ target(i)

Values are those that are stored, also where a palette would colour them. A mask is of its picture's size to the pixel.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageFile

from robust_compress.data import image_ops
from robust_compress.data.files import FileSource
from robust_compress.data.labels import IGNORED
from robust_compress.data.layout import differing, size_of
from robust_compress.data.video_ops import Choose
from robust_compress.specs import key_of
from robust_compress.types import Clip, DataError, Picture, SpecError

UNKNOWN = -1  # in a table of values: one that no mask may have
# Of Cityscapes' 34 ids, those that are evaluated, and the class that each is: cityscapesScripts, helpers/labels.py.
CITYSCAPES = dict(zip((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), range(19), strict=True))
N_CITYSCAPES_IDS = 34
_MODES = ("1", "L", "P", "I", "I;16")

Values = tuple[int, ...]  # of 256: the class that a value is, IGNORED or UNKNOWN


def values(n_classes: int, ignore: int | None = None, shift: int = 0) -> Values:
  """Value v is class v - shift; `ignore`, 255, and what is below `shift` do not count, and no other is known.

  Raises SpecError for numbers that make no table.
  """
  if not 0 < n_classes < IGNORED or not 0 <= shift < 256 or (ignore is not None and not 0 <= ignore < 256):
    raise SpecError(f"masks of {n_classes} classes, shift={shift}, ignore={ignore}: at most 254, and values below 256")
  table = [value - shift if shift <= value < shift + n_classes else UNKNOWN for value in range(256)]
  for value in (*range(shift), IGNORED, *([] if ignore is None else [ignore])):
    table[value] = IGNORED
  return tuple(table)


def values_by_id(classes: Mapping[int, int], n_ids: int) -> Values:
  """Of ids below `n_ids`, those in `classes` are these; the others, and 255, do not count."""
  return tuple(classes.get(v, IGNORED if v < n_ids or v == IGNORED else UNKNOWN) for v in range(256))


def read_mask(data: bytes, name: str, table: Values) -> np.ndarray:
  """uint8[h w]: the classes of a mask file.

  Raises:
    DataError: naming the file, where it is no picture of one channel; naming a value that is no class, and where.
  """
  try:
    with Image.open(io.BytesIO(data)) as image:
      image_ops.check_size(image.height, image.width, name)
      mode, ImageFile.LOAD_TRUNCATED_IMAGES = image.mode, False
      stored = np.asarray(image) if mode in _MODES else np.empty((0, 0))
  except DataError:
    raise
  except Exception as error:  # a damaged file makes Pillow raise anything
    raise DataError(f"{name}: unreadable or truncated mask of {len(data)} bytes ({error})") from error
  if mode not in _MODES:
    raise DataError(f"{name}: a mask of {mode} pixels; expected one number a pixel, grey or by palette")
  return _classes(stored, name, np.array(table, np.int16))


def _classes(stored: np.ndarray, name: str, table: np.ndarray) -> np.ndarray:
  classes = table[np.clip(stored, 0, 255).astype(np.uint8)]
  unknown = (classes == UNKNOWN) | (stored != np.clip(stored, 0, 255))
  if unknown.any():
    y, x = np.argwhere(unknown)[0]
    last = int(table[table != IGNORED].max())
    raise DataError(
      f"{name}: the value {int(stored[y, x])} at x={x}, y={y} is no class; there are {last + 1}. A value that does not "
      "count is named by ignore=, and shift= says where they begin"
    )
  return classes.astype(np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class Segmented:
  """What sources of pictures or clips with a mask file each share."""

  pictures: Any  # a FileSource, or ClipFiles
  masks: FileSource  # in the order of the pictures
  shown: tuple[Path, ...]  # the file of each picture that its mask describes
  classes: tuple[str, ...]
  table: Values

  def __len__(self) -> int:
    return len(self.pictures)

  def id(self, index: int) -> str:
    return self.pictures.id(index)

  def target(self, index: int) -> dict[str, np.ndarray]:
    """'segmentation' uint8[h w] and 'size'. Reads the mask, and of the picture the header.

    Raises DataError as `read_mask` does, and naming both files where their sizes differ.
    """
    mask, picture = str(self.masks.files[index].path), self.shown[index]
    segmentation = read_mask(self.masks.read(index), mask, self.table)
    size = size_of(picture, str(picture))
    if segmentation.shape != size:
      raise differing(str(picture), size, f"its mask {mask}", segmentation.shape)
    return {"segmentation": segmentation, "size": np.array(size, np.int32)}

  def picture(self, index: int) -> Picture:
    return self.pictures.picture(index)

  def sliced(self, start: int, stop: int) -> Self:
    parts = {name: getattr(self, name).sliced(start, stop) for name in ("pictures", "masks")}
    return dataclasses.replace(self, shown=self.shown[start:stop], **parts)

  def fingerprint(self) -> str:
    """Hash of the files of pictures and masks, as `FileSource.fingerprint`, of the classes and what values mean."""
    return key_of([self.pictures.fingerprint(), self.masks.fingerprint(), self.classes, self.table])


class SegmentedFiles(Segmented):
  """Picture files with masks."""

  def read(self, index: int) -> bytes:
    """The picture file as it is."""
    return self.pictures.read(index)


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentedClips(Segmented):
  """Clips with the mask of one frame each, as a `types.ClipSource`."""

  labelled_frame: tuple[int, int]  # that frame, of how many: see `inputs.check_labelled`

  def frames(self, index: int, choose: Choose) -> Clip:
    return self.pictures.frames(index, choose)
