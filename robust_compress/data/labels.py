"""Class lists, and the map from a data set's labels into a model's.

    source label ──relabel──▶ index of the same class in the model's list

Ten classes of ImageNet by wnid, in whatever order their folders stand, thus meet the published 1000-way head. What has
a place in the picture is mapped alike: the labels of boxes, of which -1 is none, and those of pixels, of which 255 is
none. Classes are the same when their names are equal, when one is ImageNet's wnid and the other its short name, or when
they are PASCAL VOC's name and COCO's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_compress.specs import key_of, nearest
from robust_compress.types import IGNORED, DataError, Picture, Source

BACKGROUND = "background"
CLASS_LISTS = (
  "imagenet1k",
  "imagenet1001",
  "coco91",
  "coco80",
  "voc20",
  "ade150",
  "cityscapes19",
  "camvid11",
  "scenes10",
  "scenes11",
)
VOC_IN_COCO = {
  "aeroplane": "airplane",
  "diningtable": "dining table",
  "motorbike": "motorcycle",
  "pottedplant": "potted plant",
  "sofa": "couch",
  "tvmonitor": "tv",
}
_LABELS = {"label", "box_labels", "segmentation"}
_SAME = VOC_IN_COCO | {theirs: voc for voc, theirs in VOC_IN_COCO.items()}


@functools.cache
def imagenet_names() -> dict[str, str]:
  """{wnid: short name} of ImageNet's 1000 classes, in label order. 'Cardigan' is a dog and 'cardigan' a garment."""
  text = (Path(__file__).parent / "imagenet_wnids.txt").read_text(encoding="utf-8")
  return dict(line.split(" ", 1) for line in text.splitlines())


@functools.cache
def class_list(name: str) -> tuple[str, ...]:
  """The classes of a model's outputs, in order; '' for a label that stands for none.

  'coco91' counts as COCO's category ids do, from 1 to 90 with gaps; 'coco80' is the same without gaps, from 0.
  'camvid11' has the order of SegNet's masks, 'ade150' the first of each class's names. 'scenes10' are the objects of
  rendered scenes, and 'scenes11' these behind the background.

  >>> class_list('imagenet1k')[:2], class_list('imagenet1001')[:2], class_list('coco91')[:3]
  (('n01440764', 'n01443537'), ('background', 'n01440764'), ('', 'person', 'bicycle'))
  """
  if name not in CLASS_LISTS:
    raise nearest("class list", name, CLASS_LISTS)
  if name.startswith("imagenet"):
    return (*([BACKGROUND] if name == "imagenet1001" else []), *imagenet_names())
  if name == "coco80":
    return tuple(filter(None, class_list("coco91")))
  if name.startswith("scenes"):
    from robust_compress.data.scenes.scene import CLASSES

    return (*([BACKGROUND] if name == "scenes11" else []), *CLASSES)
  text = (Path(__file__).parent / "class_lists" / f"{name}.txt").read_text(encoding="utf-8")
  numbered = {int(number): label for number, label in (line.split(" ", 1) for line in text.splitlines())}
  return tuple(numbered.get(label, "") for label in range(max(numbered) + 1))


def relabel(source_classes: Sequence[str], model_classes: Sequence[str]) -> np.ndarray:
  """int32[n]: where each class of the data stands in the model's list; -1 for '', a label that no example may have.

  Raises:
    DataError: lists the classes that the model's list lacks, or says which name means two classes.
  """
  index = {name: position for position, name in enumerate(model_classes) if name}
  wnids = _wnids_by_name()
  found, lacking = [], []
  for name in source_classes:
    candidates = (name, *wnids.get(_plain(name), ()), imagenet_names().get(name, ""), _SAME.get(name, ""))
    same = [candidate for candidate in candidates if candidate in index] if name else []
    if len(same) > 1 and same[0] != name:
      raise DataError(f"class {name!r} means {' or '.join(same)}; name the data's classes by wnid")
    if name and not same:
      lacking.append(name)
    found.append(index[same[0]] if same else -1)
  if lacking:
    more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
    raise DataError(
      f"{len(lacking)} of {len(source_classes)} classes of the data are not among the model's {len(model_classes)}: "
      f"{', '.join(lacking[:10])}{more}; expected names such as {', '.join(list(filter(None, model_classes))[:3])}, "
      "or a model with a head that is trained for the data's, as in NAME(n_classes=…,start=FILE)"
    )
  return np.asarray(found, np.int32)


@functools.cache
def _wnids_by_name() -> dict[str, tuple[str, ...]]:
  by_name: dict[str, tuple[str, ...]] = {}
  for wnid, name in imagenet_names().items():
    by_name[_plain(name)] = (*by_name.get(_plain(name), ()), wnid)
  return by_name


def _plain(name: str) -> str:
  return name.lower().replace("_", " ")


@dataclasses.dataclass(frozen=True)
class RelabelledSource:
  """A source whose labels follow `classes`, a model's list.

  Labels without class names are taken to follow it, except where it begins with a background: data is seldom labelled
  so, and labels from 0 to 999 would all be read one off. Where nothing is labelled there is nothing to follow.

  Raises:
    DataError: classes that the list lacks; labels without names for a list with a background. With a target: naming the
      example, a label that is out of range, or of a class without a name, which would be lost without being counted.
  """

  source: Source
  classes: tuple[str, ...]

  def __post_init__(self) -> None:
    _ = self._map  # classes that the list lacks are found before anything is read

  @functools.cached_property
  def _map(self) -> np.ndarray:
    if not self.source.classes:
      if self.classes[:1] == (BACKGROUND,) and len(self.source) and self.source.target(0).keys() & _LABELS:
        raise DataError(
          f"the data's labels have no class names, and the model's {len(self.classes)} classes begin with a "
          "background, so that label 0 may mean either; name the classes, in a labels csv by a column 'wnid'"
        )
      return np.arange(len(self.classes), dtype=np.int32)
    return relabel(self.source.classes, self.classes)

  def __len__(self) -> int:
    return len(self.source)

  def id(self, index: int) -> str:
    return self.source.id(index)

  def target(self, index: int) -> dict[str, np.ndarray]:
    target = dict(self.source.target(index))
    if "label" in target:
      self._check(index, np.unique(target["label"]))
      target["label"] = self._map[int(target["label"])]
    if "box_labels" in target:
      given = target["box_labels"]
      self._check(index, np.unique(given[given >= 0]))
      target["box_labels"] = np.where(given < 0, np.int32(-1), self._map[np.maximum(given, 0)])
    if "segmentation" in target:
      target["segmentation"] = self._mapped(index, target["segmentation"])
    return target

  def _check(self, index: int, present: np.ndarray) -> None:
    names = self.source.classes or self.classes
    for label in present.tolist():
      if not 0 <= label < len(names):
        raise DataError(f"{self.id(index)}: label {label} is out of range; the model has {len(self.classes)} classes")
      if not names[label]:
        raise DataError(
          f"{self.id(index)}: label {label} is of a class without a name, one of {len(names)}; name it in the data's "
          "list of classes, or, where pixels of it are not to count, by ignore="
        )

  def _mapped(self, index: int, given: np.ndarray) -> np.ndarray:
    """uint8[h w]: what does not count stays so."""
    present = np.flatnonzero(np.bincount(given.ravel()))  # twenty times as fast as np.unique
    self._check(index, present[present != IGNORED])
    table = np.full(256, IGNORED, np.uint8)
    table[: min(len(self._map), IGNORED)] = np.where(self._map < 0, IGNORED, self._map)[:IGNORED]
    return table[given]

  def picture(self, index: int) -> Picture:
    return self.source.picture(index)

  def fingerprint(self) -> str:
    return key_of([self.source.fingerprint(), self._map.tolist()])
