"""Where pictures and clips come from: folders, a labels csv, videos, TFDS, rendered scenes, or the user's own class.

    'folders(path=pictures):val[:100]' ──open_source──▶ Source ──ViewedSource──▶ what the codec sees

Every source is random access. A name that is not in SOURCES is a TFDS set, or 'package.module:attribute'.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robust_compress.data import (
  clips,
  coco_json,
  files,
  frame_folders,
  geometry_ops,
  image_ops,
  mask_folders,
  picture_folders,
  tfds_source,
  video_ops,
  voc_xml,
  yolo,
)
from robust_compress.data.video_ops import Choose
from robust_compress.specs import check_options, import_attribute, key_of, parse_data
from robust_compress.types import Clip, Data, DataError, Picture, Source, View

SOURCES: dict[str, tuple[Callable[..., Source] | str, str]] = {
  "folders": (files.folders, "path/split/class/picture; split 'all': path/class/picture"),
  "csv": (files.labels_csv, "a folder with labels.csv: file and wnid or label; split 'all'; file=labels.csv"),
  "pictures": (picture_folders.pictures, "every picture below path, without labels; path=one+another; split 'all'"),
  "coco": (coco_json.coco, "boxes: path/annotations/instances_split.json and pictures in path/split; file=, images="),
  "yolo": (yolo.yolo, "boxes: path/images/split/a.jpg and path/labels/split/a.txt; classes=coco80 or a file"),
  "voc": (voc_xml.voc, "boxes: path/JPEGImages, Annotations and ImageSets/Main/split.txt; classes=voc20"),
  "masks": (mask_folders.masks, "segmentation: images=images/split, masks=masks/split; classes, ignore, shift, naming"),
  "videos": (clips.videos, "path/split/class/video or path/split/video; any format of FFmpeg, and y4m"),
  "frames": (frame_folders.frames, "path/split/class/clip/frame or path/split/clip/frame; naming=cityscapes, masks"),
  "yuv": (clips.yuv, "raw video, laid out as videos; width, height, format=yuv420p"),
  "scenes": ("robust_compress.data.scenes:Scenes", "rendered here; truth=label|boxes|segmentation; moves, by length=8"),
}


def open_source(data: Data | str, data_dir: str | os.PathLike = "data") -> Source:
  """The examples that `data` names, in a fixed order, before any view.

  Raises:
    SpecError: an option that its kind does not have.
    DataError: a data set that is missing (what was looked for, what is there), empty, or not as it claims.
  """
  data = parse_data(data)
  source = _opened(data, Path(data_dir))
  if data.start is None and data.stop is None:
    return source
  start, stop, _ = slice(data.start, data.stop).indices(len(source))
  if start >= stop:
    raise DataError(f"{data}: no example in [{start}:{stop}]; the split has {len(source)}")
  sliced = getattr(source, "sliced", None)
  return sliced(start, stop) if sliced else PartSource(source, range(start, stop))


def _opened(data: Data, data_dir: Path) -> Source:
  """The whole split."""
  entry = SOURCES[data.name][0] if data.name in SOURCES else data.name
  if callable(entry):
    factory = functools.partial(entry, data.split, data_dir)
  elif ":" in entry:
    factory = functools.partial(import_attribute("data", entry), data.split)  # attribute(split, **options)
  else:
    factory = functools.partial(tfds_source.open_tfds, entry, data.split, data_dir, SOURCES)
  check_options(data.name, dict(data.options), factory, (field.name for field in dataclasses.fields(View)))
  return factory(**dict(data.options))


# ------------------------------------------------------------------------------- sources made of sources


@dataclasses.dataclass(frozen=True)
class PartSource:
  """Some examples of another source: a slice of it, or any in a given order."""

  source: Source
  indices: range | tuple[int, ...]

  @property
  def classes(self) -> tuple[str, ...]:
    return self.source.classes

  def __len__(self) -> int:
    return len(self.indices)

  def id(self, index: int) -> str:
    return self.source.id(self._inner(index))

  def target(self, index: int) -> dict[str, np.ndarray]:
    return self.source.target(self._inner(index))

  def picture(self, index: int) -> Picture:
    return self.source.picture(self._inner(index))

  def frames(self, index: int, choose: Choose) -> Clip:
    return video_ops.chosen(self.source, self._inner(index), choose)

  def fingerprint(self) -> str:
    part = [self.indices.start, self.indices.stop] if isinstance(self.indices, range) else [self.indices]
    return key_of([self.source.fingerprint(), *part])

  def _inner(self, index: int) -> int:
    if not 0 <= index < len(self):
      raise IndexError(index)
    return self.indices[index]


@dataclasses.dataclass(frozen=True)
class ViewedSource:
  """A source as the codec sees it. Only the identity view keeps `n_bytes`: no file holds any other view."""

  source: Source
  view: View

  @property
  def classes(self) -> tuple[str, ...]:
    return self.source.classes

  def __len__(self) -> int:
    return len(self.source)

  def id(self, index: int) -> str:
    return self.source.id(index)

  def target(self, index: int) -> dict[str, np.ndarray]:
    target = self.source.target(index)
    if "size" not in target:
      return target
    height, width = target["size"].tolist()
    return geometry_ops.moved(target, geometry_ops.viewed((height, width), self.view))

  def picture(self, index: int) -> Picture:
    if self.view.is_identity:
      return self.source.picture(index)
    if self.view.samples_frames:
      clip = video_ops.sample(self.source, index, self.view)
    else:
      clip = self.source.picture(index).clip
    return Picture(image_ops.apply_view(clip, self.view), None)

  def fingerprint(self) -> str:
    """The source's, and what the view makes of it. How the model is then fed is not part of it."""
    if self.view.is_identity:
      return self.source.fingerprint()
    view = [self.view.resize, self.view.crop, self.view.interpolation, image_ops.VERSION]
    if self.view.samples_frames:
      view += [self.view.length, self.view.stride, video_ops.VERSION]
    return key_of([self.source.fingerprint(), view])
