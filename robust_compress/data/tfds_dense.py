"""Boxes and masks of TFDS sets: 'coco/2017', 'voc/2007' and all with such `objects`; 'cityscapes', 'scene_parse150'.

    record ──image as stored──▶ TfdsSource ──┐
          ├─objects: bbox, label, …──▶ BoxTable──▶ TfdsBoxes
          └─mask as stored──▶ read_mask ─────────▶ TfdsMasks

TFDS gives boxes as shares of the picture's height and width. Those of VOC are its xmin to xmax, counted from 1, and are
moved as in `voc_xml.py`. The areas of COCO are whole numbers there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from robust_compress.data import boxes, labels, segmentations
from robust_compress.data.boxes import Annotated, Boxed, BoxTable
from robust_compress.data.files import sampled
from robust_compress.data.layout import differing, size_of
from robust_compress.data.mask_folders import CITYSCAPES_VALUES
from robust_compress.specs import key_of
from robust_compress.types import DataError, Picture, Source


class Dense(NamedTuple):
  """How a set says what has a place in the picture."""

  image: str  # feature with the pixels
  masks: tuple[str, ...]  # features that stay encoded besides
  source: Callable[[Any], Source]  # of the TfdsSource of the pictures


_MASKS = {
  "cityscapes": ("image_left", "segmentation_label", "cityscapes19", CITYSCAPES_VALUES),
  "scene_parse150": ("image", "annotation", "ade150", segmentations.values(150, shift=1)),
}


def what_it_holds(name: str, features: Mapping[str, Any]) -> Dense | None:
  """Of a set by its name without version; None where it has neither boxes nor masks that are known."""
  if name in _MASKS and _MASKS[name][1] in features:
    image, mask, classes, table = _MASKS[name]
    return Dense(image, (mask,), functools.partial(_masked, feature=mask, classes=classes, table=table))
  inner = getattr(features.get("objects"), "feature", None)
  if "image" not in features or inner is None or hasattr(features.get("label"), "names"):
    return None
  if not {"bbox", "label"} <= set(inner.keys()) or not inner["label"].names:
    return None
  counted_from_1 = name == "voc"
  return Dense("image", (), lambda pictures: TfdsBoxes(pictures, tuple(inner["label"].names), counted_from_1))


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsBoxes(Boxed):
  """Pictures of a TFDS set with boxes. The first target reads every record once, to know how many objects there are."""

  pictures: Any  # a TfdsSource
  classes: tuple[str, ...]
  counted_from_1: bool

  @functools.cached_property
  def table(self) -> BoxTable:
    return BoxTable.of(map(self._annotated, range(len(self))))

  def _annotated(self, index: int) -> Annotated:
    record = self.pictures.record(index)
    height, width = size_of(io.BytesIO(record[self.pictures.image]), self.id(index))
    objects = record["objects"]
    shares = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
    corners = shares * [width, height, width, height] - [self.counted_from_1, self.counted_from_1, 0, 0]
    given = np.asarray(objects["label"], np.int64)
    if given.size and not 0 <= given.min() <= given.max() < len(self.classes):
      raise DataError(
        f"{self.id(index)}: labels {given.tolist()}; {self.pictures.name} has {len(self.classes)} classes"
      )
    crowd, difficult = (np.asarray(objects.get(key, given * 0), bool) for key in ("is_crowd", "is_difficult"))
    kinds = np.where(crowd, boxes.CROWD, np.where(difficult, boxes.DIFFICULT, boxes.OBJECT))
    areas = np.asarray(objects.get("area", np.full(len(given), np.nan)), np.float64)
    return Annotated((height, width), corners.tolist(), given.tolist(), kinds.tolist(), areas.tolist(), self.id(index))

  def sliced(self, start: int, stop: int) -> TfdsBoxes:
    return dataclasses.replace(self, pictures=self.pictures.sliced(start, stop))

  def fingerprint(self) -> str:
    """That of the pictures, with the classes and, of the same examples, the objects."""
    objects = BoxTable.of(map(self._annotated, sampled(len(self)))).digest()
    return key_of([self.pictures.fingerprint(), self.classes, objects])


def _masked(pictures: Any, feature: str, classes: str, table: segmentations.Values) -> TfdsMasks:
  """Raises DataError where the masks are pictures of instances, as those that TFDS prepares as scene_parse150."""
  with Image.open(io.BytesIO(pictures.record(0)[feature])) as mask:
    if len(mask.getbands()) > 1:
      raise DataError(
        f"{pictures.name}: its masks have {len(mask.getbands())} channels: they are instances of 100 classes, and not "
        "the scene parsing masks of 150; use ADE20K's own folder, as in masks(path=ADEChallengeData2016,"
        "masks=annotations/split,classes=ade150,shift=1):validation"
      )
  return TfdsMasks(pictures, feature, labels.class_list(classes), table)


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsMasks:
  """Pictures of a TFDS set with masks."""

  pictures: Any  # a TfdsSource
  feature: str  # with the mask
  classes: tuple[str, ...]
  values: segmentations.Values

  def __len__(self) -> int:
    return len(self.pictures)

  def id(self, index: int) -> str:
    return self.pictures.id(index)

  def target(self, index: int) -> dict[str, np.ndarray]:
    """'segmentation' uint8[h w] and 'size'."""
    record, name = self.pictures.record(index), f"{self.id(index)}: {self.feature}"
    segmentation = segmentations.read_mask(record[self.feature], name, self.values)
    size = size_of(io.BytesIO(record[self.pictures.image]), self.id(index))
    if segmentation.shape != size:
      raise differing(f"{self.id(index)}: the picture", size, f"its {self.feature}", segmentation.shape)
    return {"segmentation": segmentation, "size": np.array(size, np.int32)}

  def picture(self, index: int) -> Picture:
    return self.pictures.picture(index)

  def read(self, index: int) -> bytes:
    """The picture file as TFDS stored it."""
    return self.pictures.read(index)

  def sliced(self, start: int, stop: int) -> TfdsMasks:
    return dataclasses.replace(self, pictures=self.pictures.sliced(start, stop))

  def fingerprint(self) -> str:
    """That of the pictures, with the classes, what values mean and, of the same examples, the masks."""
    stored = (self.pictures.record(index)[self.feature] for index in sampled(len(self)))
    masks = [hashlib.sha256(mask).hexdigest() for mask in stored]
    return key_of([self.pictures.fingerprint(), self.classes, self.values, masks])
