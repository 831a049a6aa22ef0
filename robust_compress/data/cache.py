"""The Source that reads coded pictures.

    Source, under its view ──▶ CodedSource ──pread, crc──▶ blob ──decode──▶ Picture(clip, n_bytes)

What lies in the folder is described in `shards.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import zlib
from pathlib import Path

import numpy as np

from robust_compress.data import shards
from robust_compress.data.order import hash_of
from robust_compress.data.shards import Entry
from robust_compress.specs import key_of
from robust_compress.types import Clip, Codec, Picture, Source, StoreError

PROVEN_SHARE = 0.01  # of pictures whose pixels were kept: these are decoded all the same, to see that they are the same
_SURELY_PROVEN = 2000  # pictures, from which on the share is never none of them
_MAX_OPEN = 256  # shards whose file stays open between reads


class CodedSource:
  """The pictures of a source as a codec leaves them: `types.Source` over the shards of a folder.

  Pictures stand in the order of the source, without those that were skipped. Targets and classes are the source's own.
  Reads are thread-safe, and every one is checked against its checksum.

  Args:
    source: what was coded, under the view it was coded in.
    directory: of the shards that `compress` wrote.
    codec: the codec that wrote them.

  Raises:
    StoreError: nothing complete is there, it is of another source or codec (both shown), or it is damaged.
  """

  def __init__(self, source: Source, directory: os.PathLike[str] | str, codec: Codec):
    self.source, self.directory, self.codec = source, Path(directory), codec
    manifest = shards.read_manifest(directory)
    if manifest is None:
      raise StoreError(f"{directory} holds no complete set of coded pictures; run compress first, or again")
    self.manifest, self.classes = manifest, source.classes
    here = dataclasses.replace(manifest.plan, source=source.fingerprint(), codec=codec.fingerprint(), n=len(source))
    manifest.plan.check_same(here, directory)
    self.index = self._open_index()  # ENTRY[n]: n_bytes and n_pixels of every picture without reading one
    self._files: dict[int, io.FileIO] = {}
    self._proven: set[int] = set()

  def __len__(self) -> int:
    return len(self.index)

  def id(self, index: int) -> str:
    return self.source.id(int(self.index["position"][index]))

  def target(self, index: int) -> dict[str, np.ndarray]:
    return self.source.target(int(self.index["position"][index]))

  def fingerprint(self) -> str:
    return key_of([dataclasses.asdict(self.manifest.plan), self.manifest.files[shards.INDEX]])

  @functools.cached_property
  def levels(self) -> np.ndarray:
    """float64[n]: the level that each picture was coded at."""
    if shards.LEVELS not in self.manifest.files:
      return np.full(len(self), self.manifest.plan.level)
    path = self.directory / shards.LEVELS
    if not path.exists() or shards.file_digest(path) != self.manifest.files[shards.LEVELS]:
      raise StoreError(f"{path} is missing or damaged; delete {shards.MANIFEST} beside it and run compress again")
    return np.load(path, allow_pickle=False)

  def find(self, position: int) -> int | None:
    """Where the picture stands here that stands at `position` in the source; None where it was skipped."""
    index = int(np.searchsorted(self.index["position"], position))
    return index if index < len(self) and self.index["position"][index] == position else None

  def blob(self, index: int) -> bytes:
    """The coded bytes of one picture. Raises StoreError, naming the shard, where they are damaged."""
    entry = self._entry(index)
    return self._read(entry, entry.offset, entry.n_bytes, entry.crc)

  def picture(self, index: int) -> Picture:
    """The decoded picture, and the size of its blob."""
    entry = self._entry(index)
    if not entry.pixels_n_bytes:
      return Picture(self._decoded(entry), entry.n_bytes)
    png = self._read(entry, entry.pixels_offset, entry.pixels_n_bytes, entry.pixels_crc)
    clip = shards.unpack_pixels(png, entry.n_frames)
    if entry.position not in self._proven and self._is_proven(entry.position):
      self._prove(entry, clip)
    return Picture(clip, entry.n_bytes)

  def _is_proven(self, position: int) -> bool:
    return position == self._first_proven or is_proven(self.source.id(position))

  @functools.cached_property
  def _first_proven(self) -> int | None:
    """Where the picture stands that is proven in any case; of a large set no id is hashed for it."""
    few = self.index["position"].tolist() if len(self) < _SURELY_PROVEN else []
    return min(few, key=lambda position: _hash_of(self.source.id(position)), default=None)

  def _decoded(self, entry: Entry) -> Clip:
    [clip] = self.codec.decode([self._read(entry, entry.offset, entry.n_bytes, entry.crc)])
    return clip

  def _prove(self, entry: Entry, clip: Clip) -> None:
    """Decodes what stands beside the pixels. Raises StoreError where something else comes out."""
    decoded = self._decoded(entry)
    if not np.array_equal(decoded, clip):
      n_off = "another size" if decoded.shape != clip.shape else f"{np.mean(decoded != clip):.2%} of samples"
      raise StoreError(
        f"{self.directory}: picture {self.source.id(entry.position)!r} does not decode to the pixels that stand beside "
        f"it ({n_off} off): coded on another kind of device, or by other versions. Delete {self.directory} and run "
        "compress again"
      )
    self._proven.add(entry.position)

  def _entry(self, index: int) -> Entry:
    return Entry(*self.index[index].item())

  def _read(self, entry: Entry, offset: int, n_bytes: int, crc: int) -> bytes:
    shard = entry.position // self.manifest.plan.shard_size
    file = self._file(shard)  # held by name: its descriptor lives as long as it does
    data = os.pread(file.fileno(), n_bytes, offset)
    if len(data) != n_bytes or zlib.crc32(data) != crc:
      path = self.directory / self.manifest.plan.shard_name(shard)
      picture = self.source.id(entry.position)
      raise StoreError(f"{path} is damaged at picture {picture!r}; delete the shard and run compress again")
    return data

  def _file(self, shard: int) -> io.FileIO:
    if shard in self._files:
      return self._files[shard]
    path = self.directory / self.manifest.plan.shard_name(shard)
    try:
      file = open(path, "rb", buffering=0)  # noqa: SIM115 - kept for the reads to come
    except FileNotFoundError:
      raise StoreError(f"{path} is missing; run compress again") from None
    return self._files.setdefault(shard, file) if len(self._files) < _MAX_OPEN else file

  def _open_index(self) -> np.ndarray:
    path = self.directory / shards.INDEX
    if not path.exists() or shards.file_digest(path) != self.manifest.files[shards.INDEX]:
      raise StoreError(f"{path} is missing or damaged; delete {shards.MANIFEST} beside it and run compress again")
    index = np.load(path, mmap_mode="r" if self.manifest.n else None, allow_pickle=False)
    return index.view(np.ndarray)


def is_proven(picture: str) -> bool:
  """Whether the blob of a picture is decoded beside its pixels; its id alone says: all readers take the same ones.

  So is, in a set of which chance may have taken none, the picture whose hash is the smallest.
  """
  return _hash_of(picture) < PROVEN_SHARE


def _hash_of(picture: str) -> float:
  """Within 0…1."""
  return hash_of("decode", picture) / 2**128
