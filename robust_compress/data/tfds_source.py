"""Sets of pictures and of videos prepared by TensorFlow Datasets, with random access and without tensorflow.

    array_record shards ──tfds.data_source──┐
    tfrecord shards ──index of offsets──────┴──▶ record ──image bytes as stored──▶ decode_picture ──▶ Picture

Image bytes are taken undecoded, so that the rate of originals is that of the stored file and all pixels come from
Pillow. A video is stored by TFDS as a picture file a frame, and only the frames that a view takes are decoded. TFRecord
files have no index of their own: one pass over the record headers makes one (12 bytes read a record, 8 bytes kept),
after which they are read by offset like the others. What has boxes or masks besides: `tfds_dense.py`.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from robust_compress.data import image_ops, tfds_dense
from robust_compress.data.files import sampled
from robust_compress.data.video_ops import Choose
from robust_compress.specs import key_of, nearest
from robust_compress.types import Clip, DataError, Picture, Source

HEADER = struct.Struct("<QI")  # a TFRecord: length, its checksum, the record, its checksum (4 bytes)


def open_tfds(
  name: str, split: str, data_dir: Path, others: Iterable[str], /, version: str | None = None, **unknown: Any
) -> Source:
  """A prepared TFDS set of pictures with a class label, boxes or masks, or of videos: 'cifar10', 'ucf101/ucf101_1'.

  It is looked for in data_dir, then where TFDS itself keeps its data. Nothing is downloaded. `others` are kinds of data
  that are no TFDS set, one of which may be meant by a name that is none.
  """
  builder = _builder(name if version is None else f"{name}:{version}", data_dir, others)
  if unknown:  # said only now, so that a misspelt 'csv(path=…)' is first told that it is no data set
    raise nearest(f"option of {name}", min(unknown), ["version"])
  info, features = builder.info, dict(builder.info.features.items())
  dense = tfds_dense.what_it_holds(builder.name, features)
  if dense:
    kind, key, label = TfdsSource, dense.image, ""
  else:
    kind, key, label = _what_it_holds(name, features, *(info.supervised_keys or ("image", "label")))
  if split not in info.splits:
    raise DataError(f"{name}: no split {split!r} in {info.data_dir}; it has {', '.join(info.splits)}")
  records = _records(builder, split, [key, *(dense.masks if dense else ())])
  classes = tuple(features[label].names) if label else ()
  pictures = kind(f"{info.full_name}:{split}", records, key, label, classes, range(len(records)))
  return dense.source(pictures) if dense else pictures


def _what_it_holds(name: str, features: Mapping[str, Any], image: str, label: str) -> tuple[type, str, str]:
  """(kind of source, feature with the pixels, feature with the class or '')."""
  import tensorflow_datasets as tfds

  videos = [key for key, feature in features.items() if isinstance(feature, tfds.features.Video)]
  label = label if hasattr(features.get(label), "names") else ""
  if image in features and image not in videos and label:
    return TfdsSource, image, label
  if not videos:
    raise DataError(
      f"{name}: its features are {', '.join(features)}; expected an image with a class label or objects, or a video"
    )
  return TfdsClips, videos[0], label


def _builder(name: str, data_dir: Path, others: Iterable[str]) -> Any:
  import tensorflow_datasets as tfds

  places = [os.fspath(data_dir.absolute()), tfds.core.constants.DATA_DIR]
  for place in places:
    try:
      builder = tfds.builder(name, data_dir=place)
    except tfds.core.DatasetNotFoundError:
      continue
    if builder.info.splits:
      return builder
  known = tfds.list_builders(with_community_datasets=False)
  base = name.partition("/")[0].partition(":")[0]
  if base not in known:
    raise nearest("data", base, [*others, *known], "robust-compress list datasets")
  raise DataError(
    f"{name}: not prepared in {' or '.join(places)}; run `tfds build {name} --data_dir={places[0]}` first"
  )


def _records(builder: Any, split: str, encoded: Sequence[str]) -> Sequence[Mapping[str, Any]]:
  """Examples of a split with these pictures, or each frame of a video, left as bytes."""
  import tensorflow_datasets as tfds

  class AsStored(tfds.decode.SkipDecoding):
    def decode_batch_example_np(self, frames: Any) -> Any:
      return frames

  decoders = {key: AsStored() for key in encoded}
  try:
    return builder.as_data_source(split, decoders=decoders)
  except NotImplementedError:  # prepared in a format without random access
    paths = [instruction.filename for instruction in builder.info.splits[split].file_instructions]
    return TFRecords(paths, lambda record: builder.info.features.deserialize_example_np(record, decoders=decoders))


class TFRecords:
  """Random access to uncompressed TFRecord files, by an index of where each record starts."""

  def __init__(self, paths: Sequence[str], parse: Callable[[bytes], Mapping[str, Any]]):
    self._paths = [epath.Path(path) for path in paths]
    self._parse = parse
    self._offsets = [_offsets(path) for path in self._paths]
    self._ends = list(itertools.accumulate(map(len, self._offsets)))

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    shard = bisect.bisect_right(self._ends, index)
    offset = self._offsets[shard][index - self._ends[shard]]  # counted from the end of the shard
    with self._paths[shard].open("rb") as stream:
      stream.seek(offset)
      length, _ = HEADER.unpack(stream.read(HEADER.size))
      return self._parse(stream.read(length))


def _offsets(path: epath.Path) -> np.ndarray:
  """int64[n]: where the records of a file start. Raises DataError where the last one stops short."""
  size, offset, offsets = path.stat().length, 0, []
  with path.open("rb") as stream:
    while offset < size:
      stream.seek(offset)
      header = stream.read(HEADER.size)
      offsets.append(offset)
      offset += HEADER.size + (HEADER.unpack(header)[0] if len(header) == HEADER.size else size) + 4
  if offset != size:
    raise DataError(f"{path}: stops short at byte {size}; prepare the data set again")
  return np.asarray(offsets, np.int64)


@dataclasses.dataclass
class TfdsSource:
  """A split of a TFDS set. Ids are positions in it ('validation-00000012'), which TFDS keeps fixed for a version."""

  name: str  # 'imagenette/320px-v2/1.0.0:validation'
  records: Sequence[Mapping[str, Any]]
  image: str  # names of the two features, the second '' where it has none
  label: str
  classes: tuple[str, ...]
  indices: range  # of the split, what this source holds

  def __post_init__(self) -> None:
    self._labels = np.full(len(self.indices), -1, np.int32)  # known once their record was read

  def __len__(self) -> int:
    return len(self.indices)

  def id(self, index: int) -> str:
    return f"{self.name.rpartition(':')[2]}-{self.indices[index]:08d}"

  def target(self, index: int) -> dict[str, np.ndarray]:
    """{'label': int32[]}. Free after `picture(index)`; before it, the record is read. {} where there are no classes."""
    if not self.label:
      return {}
    if self._labels[index] < 0:
      self.read(index)
    return {"label": self._labels[index].copy()}

  def picture(self, index: int) -> Picture:
    data = self.read(index)
    return Picture(image_ops.decode_picture(data, f"{self.name}[{self.indices[index]}]"), len(data))

  def read(self, index: int) -> Any:
    """The picture file as TFDS stored it."""
    record = self.record(index)
    if self.label:
      label = int(record[self.label])
      if not 0 <= label < len(self.classes):
        raise DataError(f"{self.id(index)}: label {label} is out of range; {self.name} has {len(self.classes)} classes")
      self._labels[index] = label
    return record[self.image]

  def record(self, index: int) -> Mapping[str, Any]:
    """Everything that TFDS stored of an example."""
    return self.records[self.indices[index]]

  def digest(self, index: int) -> str:
    """Of the contents of one example."""
    return hashlib.sha256(self.read(index)).hexdigest()

  def sliced(self, start: int, stop: int) -> TfdsSource:
    return dataclasses.replace(self, indices=self.indices[start:stop])

  @functools.cached_property
  def _fingerprint(self) -> str:
    contents = [self.digest(index) for index in sampled(len(self))]
    labels = [int(self._labels[index]) for index in sampled(len(self))]
    return key_of([self.name, self.indices.start, self.indices.stop, self.classes, labels, contents])

  def fingerprint(self) -> str:
    """Hash of name, version, split, range and classes, and of labels and contents of all or sampled examples.

    TFDS versions its data, so of a large set no more is read than `files.sampled` says.
    """
    return self._fingerprint


class TfdsClips(TfdsSource):
  """Videos of a TFDS set, as a `types.ClipSource`. `n_bytes` of a clip are those of its frames as TFDS stored them."""

  def picture(self, index: int) -> Picture:
    stored = self.read(index)
    return Picture(self._decoded(index, stored, range(len(stored))), sum(map(len, stored)))

  def frames(self, index: int, choose: Choose) -> Clip:
    stored = self.read(index)
    return self._decoded(index, stored, choose(len(stored)))

  def digest(self, index: int) -> str:
    return key_of([hashlib.sha256(frame).hexdigest() for frame in self.read(index)])

  def _decoded(self, index: int, stored: Sequence[bytes], wanted: Sequence[int]) -> Clip:
    name = f"{self.name}[{self.indices[index]}]"
    return image_ops.decode_clip(((stored[i], f"{name}, frame {i}") for i in wanted), len(wanted), name)
