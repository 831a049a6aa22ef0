"""The format of coded pictures on disk.

    manifest.json               what was coded and how, totals, what was skipped, checksums; written last: it means done
    index.npy                   one entry a picture: where its blob lies; memory-mapped, so that opening is free
    levels.npy                  the level of each, where each has its own to meet a rate
    shard-00000-of-00004.zip    stored, not deflated: any unzip gives the files of its pictures
      00000007_n01440764_2.jpeg         position in the source, end of the id
      00000007_n01440764_2.pixels.png   what the codec decodes to, kept where decoding costs a network
      index.npy, levels.npy, shard.json  the same for this shard alone, so that a cut-off run goes on from whole shards

`compress.py` writes these files and `cache.py` reads them. Bytes depend on the `Plan` alone, not on threads, hosts or
dates. Readers import no tensorflow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from robust_compress.data.stored_zip import StoredZip
from robust_compress.types import Clip, StoreError

MANIFEST, INDEX, LEVELS, SHARD = "manifest.json", "index.npy", "levels.npy", "shard.json"


class Entry(NamedTuple):
  """One coded picture: where it stands in the source, and where its bytes stand in the shard."""

  position: int
  n_frames: int
  n_pixels: int  # t·h·w of what the codec saw
  offset: int
  n_bytes: int  # of the blob: what the rate counts
  crc: int
  pixels_offset: int = 0  # of the lossless pixels; n_bytes 0 where they are not kept
  pixels_n_bytes: int = 0
  pixels_crc: int = 0


ENTRY = np.dtype([(name, "<u4" if name.endswith("crc") else "<i8") for name in Entry._fields])


@dataclass(frozen=True)
class Plan:
  """All that the bytes of a folder of shards depend on."""

  source: str  # fingerprint of the pictures that the codec sees
  codec: str  # its fingerprint
  level: float | str  # 'per picture …' where each has its own: a hash of them, or the rate that they are to meet
  n: int  # pictures in the source
  shard_size: int
  keep_pixels: bool

  @property
  def n_shards(self) -> int:
    return -(-self.n // self.shard_size)

  def shard_name(self, shard: int) -> str:
    return f"shard-{shard:05d}-of-{self.n_shards:05d}.zip"

  def positions(self, shard: int) -> range:
    return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n))

  def differences(self, asked: Plan) -> str:
    """Every field in which this plan is not the one asked for; '' for the same plan."""
    return "; ".join(
      f"{field.name} is {getattr(self, field.name)!r}, asked for {getattr(asked, field.name)!r}"
      for field in dataclasses.fields(Plan)
      if getattr(self, field.name) != getattr(asked, field.name)
    )

  def check_same(self, asked: Plan, directory: os.PathLike[str] | str) -> None:
    """Raises StoreError showing every field in which the plan found in `directory` is not the one asked for."""
    if differences := self.differences(asked):
      remedy = "use another folder, or --replace to code them again"
      raise StoreError(f"{directory} holds other coded pictures: {differences}; {remedy}")


@dataclass(frozen=True)
class Manifest:
  """A folder of shards that is complete."""

  plan: Plan
  name: str  # of the point, for people
  n: int  # pictures coded
  n_bytes: int  # of all blobs
  n_pixels: int
  skipped: tuple[tuple[str, str], ...]  # (id, reason) of pictures that could not be read or coded
  files: dict[str, tuple[int, str]]  # (n_bytes, sha256) of every shard and of the index

  @property
  def bpp(self) -> float:
    """Bits per pixel of all that was coded."""
    return 8 * self.n_bytes / self.n_pixels

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"


def read_manifest(directory: os.PathLike[str] | str) -> Manifest | None:
  """None where the folder is not complete. Raises StoreError where the manifest is damaged."""
  path = Path(directory) / MANIFEST
  try:
    fields: dict[str, Any] = json.loads(path.read_text())
    skipped = tuple((id, reason) for id, reason in fields["skipped"])
    files = {name: (n_bytes, digest) for name, (n_bytes, digest) in fields["files"].items()}
    return Manifest(**{**fields, "plan": Plan(**fields["plan"]), "skipped": skipped, "files": files})
  except FileNotFoundError:
    return None
  except Exception as error:  # JSON of another shape fails in as many ways as there are shapes
    raise StoreError(f"{path} is damaged ({error}); delete it and run compress again") from error


# ------------------------------------------------------------------------------------------------ shards


class ShardWriter:
  """Writes one shard into an open file: pictures in order, and when the block ends well, what they are."""

  def __init__(self, file: BinaryIO, plan: Plan, suffix: str):
    self._archive, self._plan, self._suffix = StoredZip(file), plan, _safe(suffix)
    self._entries: list[Entry] = []
    self._levels: list[float] = []
    self._ids: list[str] = []
    self._skipped: list[tuple[str, str]] = []

  def add(
    self, position: int, id: str, blob: bytes, pixels: bytes, n_frames: int, n_pixels: int, level: float | None = None
  ) -> None:
    """One picture: its blob, the PNG of its pixels unless empty, and the level found for it. Positions must rise."""
    stem = f"{position:08d}_{_safe(os.path.splitext(id)[0])}"
    spans = [self._archive.add(f"{stem}.{self._suffix}", blob)]
    if pixels:
      spans.append(self._archive.add(f"{stem}.pixels.png", pixels))
    self._entries.append(Entry(position, n_frames, n_pixels, *(value for span in spans for value in span)))
    self._ids.append(id)
    self._levels += [] if level is None else [level]

  def skip(self, id: str, reason: str) -> None:
    self._skipped.append((id, reason))

  def __enter__(self) -> ShardWriter:
    return self

  def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
    if error_type is None:
      fields = {"plan": dataclasses.asdict(self._plan), "ids": self._ids, "skipped": self._skipped}
      self._archive.add(INDEX, npy(np.array(self._entries, ENTRY)))
      if self._levels:
        self._archive.add(LEVELS, npy(np.array(self._levels, np.float64)))
      self._archive.add(SHARD, json.dumps(fields).encode())
      self._archive.close()


def _safe(text: str) -> str:
  """The end of any text as part of a file name; positions make member names unique."""
  return re.sub(r"[^A-Za-z0-9._-]", "_", text)[-80:]


def npy(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, array, allow_pickle=False)
  return buffer.getvalue()


def write_joined(file: BinaryIO, dtype: np.dtype, parts: Iterable[np.ndarray]) -> None:
  """The concatenation of arrays [n], as `npy` has it, with one of them in memory at a time."""

  def write_header(n: int) -> None:  # numpy leaves room in it for any n
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, fields)

  write_header(0)
  n = 0
  for part in parts:
    file.write(part.tobytes())
    n += len(part)
  file.seek(0)
  write_header(n)


def read_shard(path: Path) -> tuple[Plan, np.ndarray, list[tuple[str, str]]]:
  """(plan, ENTRY[n], skipped) of one shard. Raises StoreError where it is missing, damaged or no shard."""
  try:
    with zipfile.ZipFile(path) as archive:
      fields = json.loads(archive.read(SHARD))
      index = np.load(io.BytesIO(archive.read(INDEX)), allow_pickle=False)
    return Plan(**fields["plan"]), index, [(id, reason) for id, reason in fields["skipped"]]
  except FileNotFoundError as error:
    raise StoreError(f"{path} is missing; run compress again") from error
  except Exception as error:  # zip headers claim encryption, other compressions and sizes, each with its own error
    raise StoreError(f"{path} is damaged ({error}); delete it and run compress again") from error


def plan_of(path: Path) -> Plan | None:
  """Of one shard; None where it is missing, damaged or no shard."""
  try:
    return read_shard(path)[0]
  except StoreError:
    return None


def standing_plan(directory: os.PathLike[str] | str) -> Plan | None:
  """By which what stands in a folder was coded, complete or not. Raises StoreError where the manifest is damaged."""
  manifest = read_manifest(directory)
  if manifest is not None:
    return manifest.plan
  return next(filter(None, map(plan_of, sorted(Path(directory).glob("shard-*.zip")))), None)


def levels_of(path: Path) -> np.ndarray:
  """float64[n]: the level of each picture in a shard of which each has its own; empty where none has."""
  with zipfile.ZipFile(path) as archive:
    if LEVELS not in archive.namelist():
      return np.empty(0)
    return np.load(io.BytesIO(archive.read(LEVELS)), allow_pickle=False)


def is_whole(path: Path) -> bool:
  """Whether every member of a shard has the checksum it was written with."""
  try:
    with zipfile.ZipFile(path) as archive:
      return archive.testzip() is None
  except Exception:  # as in `read_shard`
    return False


def file_digest(path: Path) -> tuple[int, str]:
  """(n_bytes, sha256) of a file."""
  with open(path, "rb") as file:
    return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def pack_pixels(clip: Clip) -> bytes:
  """uint8[t h w 3] as one PNG with the frames below each other."""
  buffer = io.BytesIO()
  Image.fromarray(clip.reshape(-1, *clip.shape[2:])).save(buffer, "PNG", compress_level=1)
  return buffer.getvalue()


def unpack_pixels(png: bytes, n_frames: int) -> Clip:
  """The inverse of `pack_pixels`."""
  rows = np.array(Image.open(io.BytesIO(png), formats=["PNG"]))
  return rows.reshape(n_frames, -1, *rows.shape[1:])
