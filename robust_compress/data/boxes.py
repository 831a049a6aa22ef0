"""Objects by their boxes: one table for a whole data set, mended where annotations are not what they should be.

    Annotated, one a picture ──BoxTable.of──▶ BoxTable ──target(i)──▶ {'boxes' float32[k 4], 'box_labels', …, 'size'}

A box that sticks out of its picture is cut to it, and one of which nothing is left is dropped. Both are counted, a
picture at a time: `counts_of` says for a row's provenance what there was in the pictures that it measured.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from robust_compress.data.files import FileSource
from robust_compress.data.layout import differing
from robust_compress.specs import key_of
from robust_compress.types import CROWD, DIFFICULT, OBJECT, DataError, Picture, Source, stack

MAX_BOXES = 2000  # of one picture
_SLACK = 0.01  # pixels that a box may stick out by rounding, without being counted


class Annotated(NamedTuple):
  """The objects of one picture as somebody wrote them down: x0, y0, x1, y1 in pixels, wherever they are."""

  size: tuple[int, int]  # of the picture: h, w
  boxes: Sequence[Sequence[float]]
  labels: Sequence[int]
  kinds: Sequence[int]
  areas: Sequence[float]  # NaN: that of the box
  where: str = ""  # the file, and the entry in it, for errors


@dataclasses.dataclass(frozen=True, eq=False)
class BoxTable:
  """The objects of m pictures, n in all; those of picture i stand from starts[i] to starts[i + 1]."""

  sizes: np.ndarray  # int32[m 2]
  starts: np.ndarray  # int64[m+1]
  boxes: np.ndarray  # float32[n 4], inside the picture and of some area
  labels: np.ndarray  # int32[n]
  kinds: np.ndarray  # uint8[n]
  areas: np.ndarray  # float32[n]
  clipped: np.ndarray  # int64[m]: how many boxes of each picture stuck out
  dropped: np.ndarray  # int64[m]: how many had no area

  @classmethod
  def of(cls, pictures: Iterable[Annotated]) -> BoxTable:
    pictures = list(pictures)
    for i, picture in enumerate(pictures, 1):
      if len(picture.boxes) > MAX_BOXES:
        raise DataError(
          f"{picture.where or f'picture {i} of {len(pictures)}'}: {len(picture.boxes)} boxes; at most {MAX_BOXES} are "
          "taken, since all pictures of a set are padded to as many. Leave it out"
        )
    sizes = np.array([picture.size for picture in pictures], np.int32).reshape(-1, 2)
    owners = np.repeat(np.arange(len(pictures)), [len(picture.boxes) for picture in pictures])
    given, labels, kinds, areas = (
      np.array([value for picture in pictures for value in getattr(picture, name)], dtype)
      for name, dtype in (("boxes", np.float64), ("labels", np.int32), ("kinds", np.uint8), ("areas", np.float32))
    )
    given = given.reshape(-1, 4)
    boxes = np.clip(given, 0, sizes[owners][:, [1, 0, 1, 0]]).astype(np.float32)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    kept = (wide > 0) & (high > 0)
    out = (np.abs(boxes - given) > _SLACK).any(1)

    def count(which: np.ndarray) -> np.ndarray:
      return np.bincount(owners[which], minlength=len(pictures))

    return cls(
      sizes, np.concatenate([[0], np.cumsum(count(kept))]), boxes[kept], labels[kept], kinds[kept],
      np.where(np.isnan(areas), wide * high, areas)[kept], count(out & kept), count(~kept),
    )  # fmt: skip

  @functools.cached_property
  def k(self) -> int:
    """Most objects of one picture, and at least one."""
    return int(np.diff(self.starts).max(initial=1))

  def target(self, index: int) -> dict[str, np.ndarray]:
    """As `types.Source.target` says, filled up to k."""
    start, stop = self.starts[index : index + 2]
    missing = self.k - int(stop - start)
    return {
      "boxes": np.pad(self.boxes[start:stop], ((0, missing), (0, 0))),
      "box_labels": np.pad(self.labels[start:stop], (0, missing), constant_values=-1),
      "box_areas": np.pad(self.areas[start:stop], (0, missing)),
      "box_kinds": np.pad(self.kinds[start:stop], (0, missing)),
      "size": self.sizes[index].copy(),
    }

  def sliced(self, start: int, stop: int) -> BoxTable:
    rows, objects = slice(start, stop), slice(self.starts[start], self.starts[stop])
    per_picture = {name: getattr(self, name)[rows] for name in ("sizes", "clipped", "dropped")}
    per_object = {name: getattr(self, name)[objects] for name in ("boxes", "labels", "kinds", "areas")}
    return BoxTable(starts=self.starts[start : stop + 1] - self.starts[start], **per_picture, **per_object)

  def counts(self, pictures: Sequence[int]) -> dict[str, int]:
    """Of some pictures: the boxes that are here, how many of them stuck out, and how many were dropped."""
    here = np.array(pictures, np.int64)
    counted = {"boxes": np.diff(self.starts), "boxes_clipped": self.clipped, "boxes_dropped": self.dropped}
    return {name: int(values[here].sum()) for name, values in counted.items()}

  def digest(self) -> str:
    """Hash of the objects and sizes."""
    parts = (self.sizes, self.starts, self.boxes, self.labels, self.kinds, self.areas)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


class Boxed:
  """What sources of pictures with boxes share: the pictures are another source, the objects a table."""

  pictures: Any
  classes: tuple[str, ...]
  table: BoxTable

  def __len__(self) -> int:
    return len(self.pictures)

  def id(self, index: int) -> str:
    return self.pictures.id(index)

  def target(self, index: int) -> dict[str, np.ndarray]:
    """'boxes', 'box_labels', 'box_areas', 'box_kinds' and 'size'."""
    return self.table.target(index)

  def picture(self, index: int) -> Picture:
    """Raises DataError too where its size is not that of its annotations."""
    picture = self.pictures.picture(index)
    shape, size = picture.clip.shape[1:3], tuple(self.table.sizes[index].tolist())
    if shape != size:
      raise differing(f"{self.id(index)}: the picture", shape, "what its annotations describe", size)
    return picture

  def read(self, index: int) -> bytes:
    """The picture file as it is."""
    return self.pictures.read(index)

  def counts(self, ids: Collection[str]) -> dict[str, int]:
    """`BoxTable.counts` of the pictures with these ids."""
    return self.table.counts([index for index in range(len(self)) if self.id(index) in ids])


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedFiles(Boxed):
  """Picture files with boxes. `n_bytes` of a picture is its file's size."""

  pictures: FileSource
  table: BoxTable
  classes: tuple[str, ...]
  n_left_out: int = 0  # files of annotations whose picture is not there, in the whole split

  def counts(self, ids: Collection[str]) -> dict[str, int]:
    return {**super().counts(ids), "without_picture": self.n_left_out}

  def sliced(self, start: int, stop: int) -> BoxedFiles:
    return dataclasses.replace(self, pictures=self.pictures.sliced(start, stop), table=self.table.sliced(start, stop))

  def fingerprint(self) -> str:
    """Hash of the files, as `FileSource.fingerprint`, of all objects, and of the classes."""
    return key_of([self.pictures.fingerprint(), self.table.digest(), self.classes])


def counts_of(source: Source, ids: Iterable[str]) -> dict[str, int] | None:
  """What there is to be found in the pictures with these ids, and what became of the rest of their annotations.

  'objects', 'crowds', 'difficult' and the pictures 'without_objects' of any kind are counted as the source shows them,
  so under its view; of 'boxes_outside_view' that leaves nothing. 'boxes_clipped' and 'boxes_dropped' had to be mended
  before. 'without_picture' is of the whole split. None where there are no such annotations beneath the source.
  """
  annotated = next((one for one in stack(source) if isinstance(one, Boxed)), None)
  if annotated is None:
    return None
  ids = frozenset(ids)
  targets = (source.target(index) for index in range(len(source)) if source.id(index) in ids)
  kinds = [target["box_kinds"][target["box_labels"] >= 0] for target in targets]
  n_of_kind = np.bincount(np.concatenate([np.zeros(0, np.uint8), *kinds]), minlength=3).tolist()
  counts = annotated.counts(ids)
  return {
    "pictures": len(kinds),
    "without_objects": sum(not found.size for found in kinds),
    "objects": n_of_kind[OBJECT],
    "crowds": n_of_kind[CROWD],
    "difficult": n_of_kind[DIFFICULT],
    "boxes_outside_view": counts.pop("boxes") - sum(n_of_kind),
    **counts,
  }
