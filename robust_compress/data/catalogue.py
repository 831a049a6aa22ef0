"""The data sets that have a name, with the published sizes of their splits, so that plans need no pictures."""

from __future__ import annotations

from robust_compress.data import sources
from robust_compress.types import Data

TFDS: dict[str, tuple[dict[str, int], str]] = {
  "imagenet2012": ({"train": 1_281_167, "validation": 50_000}, "ImageNet, 1000 classes, by TFDS"),
  "imagenette": ({"train": 9_469, "validation": 3_925}, "10 classes of ImageNet, by TFDS"),
  "cifar10": ({"train": 50_000, "test": 10_000}, "10 classes, 32x32, by TFDS"),
  "coco/2017": ({"train": 118_287, "validation": 5_000, "test": 40_670}, "boxes of 80 classes, by TFDS"),
  "voc/2007": ({"train": 2_501, "validation": 2_510, "test": 4_952}, "boxes of 20 classes, by TFDS"),
  "cityscapes": ({"train": 2_975, "validation": 500, "test": 1_525}, "streets, masks of 19 classes, by TFDS"),
  "scene_parse150": ({"train": 20_210, "test": 2_000}, "ADE20K; TFDS has instances, for masks see masks(path=…)"),
}


def described() -> dict[str, str]:
  """{name: what it is} of everything that can be opened."""
  kinds = {name: doc for name, (_, doc) in sources.SOURCES.items()}
  sets = {
    name: f"{doc}: {', '.join(f'{split} {n:,}' for split, n in splits.items())}" for name, (splits, doc) in TFDS.items()
  }
  others = {
    "(any other)": "a TFDS set of classified pictures, of objects or of videos by its name, or package.module:attribute"
  }
  return {**kinds, **sets, **others}


def n_published(data: Data) -> int | None:
  """Examples of a split by its publisher's count, slice applied; None where that is not known."""
  n = TFDS.get(data.name, ({}, ""))[0].get(data.split)
  return None if n is None else len(range(n)[data.start : data.stop])
