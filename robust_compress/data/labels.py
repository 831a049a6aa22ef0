"""Class lists, and the map from a data set's labels into a model's.

    source label ──relabel──▶ index of the same class in the model's list

Ten classes of ImageNet by wnid, in whatever order their folders stand, thus meet the published 1000-way head.
Classes are the same when their names are equal, or when one is ImageNet's wnid and the other its short name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_compress.specs import key_of, nearest
from robust_compress.types import DataError, Picture, Source

BACKGROUND = "background"


@functools.cache
def imagenet_names() -> dict[str, str]:
  """{wnid: short name} of ImageNet's 1000 classes, in label order. 'Cardigan' is a dog and 'cardigan' a garment."""
  text = (Path(__file__).parent / "imagenet_wnids.txt").read_text(encoding="utf-8")
  return dict(line.split(" ", 1) for line in text.splitlines())


def class_list(name: str) -> tuple[str, ...]:
  """The classes of a model's outputs, in order.

  >>> class_list('imagenet1k')[:2], class_list('imagenet1001')[:2]
  (('n01440764', 'n01443537'), ('background', 'n01440764'))
  """
  lists = {"imagenet1k": (), "imagenet1001": (BACKGROUND,)}
  if name not in lists:
    raise nearest("class list", name, lists)
  return (*lists[name], *imagenet_names())


def relabel(source_classes: Sequence[str], model_classes: Sequence[str]) -> np.ndarray:
  """int32[n]: where each class of the data stands in the model's list; -1 for '', a label without examples.

  Raises:
    DataError: lists the classes that the model's list lacks, or says which name means two classes.
  """
  index = {name: position for position, name in enumerate(model_classes)}
  wnids = _wnids_by_name()
  found, lacking = [], []
  for name in source_classes:
    candidates = (name, *wnids.get(_plain(name), ()), imagenet_names().get(name, ""))
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
      f"{', '.join(lacking[:10])}{more}; expected names such as {', '.join(model_classes[:3])}"
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
    DataError: classes that the list lacks; labels without names for a list with a background.
  """

  source: Source
  classes: tuple[str, ...]

  def __post_init__(self) -> None:
    _ = self._map  # classes that the list lacks are found before anything is read

  @functools.cached_property
  def _map(self) -> np.ndarray:
    if not self.source.classes:
      if self.classes[:1] == (BACKGROUND,) and len(self.source) and "label" in self.source.target(0):
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
    target = self.source.target(index)
    if "label" not in target:
      return target
    label = int(target["label"])
    if not 0 <= label < len(self._map):
      raise DataError(f"{self.id(index)}: label {label} is out of range; the model has {len(self.classes)} classes")
    return {**target, "label": self._map[label]}

  def picture(self, index: int) -> Picture:
    return self.source.picture(index)

  def fingerprint(self) -> str:
    return key_of([self.source.fingerprint(), self._map.tolist()])
