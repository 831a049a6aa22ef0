"""Clips in files, as examples: video files and raw video here, folders of frames in `frame_folders.py`.

    path/val/surfing/a.mp4          ──videos──▶┐
    path/val/surfing/a.yuv          ──yuv─────▶┼─▶ ClipFiles ──frames(index, choose)──▶ uint8[t h w 3]
    path/val/surfing/a/0001.png, …  ──frames──▶┘

Where a split has folders of clips, these are the classes, in sorted order; where it has the clips themselves, nothing
is labelled. As for pictures, split 'all' is the folder itself, and no link leads out of it. A clip is decoded no
further than the frames that are chosen need.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from robust_compress.data import files, image_ops, raw_video, video_files
from robust_compress.data.files import check_inside, contents_of, listed, located
from robust_compress.data.video_ops import Choose
from robust_compress.specs import key_of
from robust_compress.types import Clip, DataError, Picture, SpecError

_WHOLE, _BLOCK, _N_BLOCKS = 1 << 20, 1 << 16, 16  # bytes of a file that a fingerprint reads


class Readable(Protocol):
  """Where the frames of one clip are."""

  kind: str  # what the pixels depend on besides the contents of the files

  @property
  def files(self) -> tuple[Path, ...]: ...
  def frames(self, choose: Choose) -> Clip: ...


class Example(NamedTuple):
  id: str
  clip: Readable
  label: int | None = None  # where the split has classes


@dataclasses.dataclass(frozen=True)
class ClipFiles:
  """Clips in files, as a `types.ClipSource`. `n_bytes` of a clip is the size of its files, sound and all."""

  examples: tuple[Example, ...]
  classes: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    files.check_unique([example.id for example in self.examples])

  def __len__(self) -> int:
    return len(self.examples)

  def id(self, index: int) -> str:
    return self.examples[index].id

  def target(self, index: int) -> dict[str, np.ndarray]:
    """{'label': int32[]}, or {} where nothing is labelled."""
    label = self.examples[index].label
    return {} if label is None else {"label": np.asarray(label, np.int32)}

  def picture(self, index: int) -> Picture:
    """All frames. More than `image_ops.MAX_PIXELS` pixels are a DataError; a view may take a part."""
    clip = self.frames(index, lambda n_frames: range(n_frames or 0))
    return Picture(clip, sum(files.stat_of(path).st_size for path in self.examples[index].clip.files))

  def frames(self, index: int, choose: Choose) -> Clip:
    return self.examples[index].clip.frames(choose)

  def sliced(self, start: int, stop: int) -> ClipFiles:
    return dataclasses.replace(self, examples=self.examples[start:stop])

  @property
  def paths(self) -> list[Path]:
    """All files of all clips."""
    return [path for example in self.examples for path in example.clip.files]

  def fingerprint(self) -> str:
    """Hash of ids, labels, classes, file sizes and contents.

    Contents are those of the files that `files.sampled` names: whole up to 1 MiB, of a larger file 16 blocks of 64 KiB
    spread over it. Computed once a process for as long as no file's size or time changes.
    """
    stats = map(files.stat_of, self.paths)
    return _fingerprint(self, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.lru_cache(maxsize=64)
def _fingerprint(source: ClipFiles, stats: tuple[tuple[int, int], ...]) -> str:
  sizes = iter([size for size, _ in stats])
  examples = [
    [id, label, clip.kind, list(itertools.islice(sizes, len(clip.files)))] for id, clip, label in source.examples
  ]
  paths = source.paths
  contents = [_digest(paths[index], stats[index][0]) for index in files.sampled(len(paths))]
  return key_of([examples, source.classes, contents])


def _digest(path: Path, size: int) -> str:
  if size <= _WHOLE:
    return hashlib.sha256(files.read_file(path)).hexdigest()
  digest = hashlib.sha256()
  try:
    with path.open("rb") as stream:
      for start in np.linspace(0, size - _BLOCK, _N_BLOCKS).astype(int).tolist():
        stream.seek(start)
        digest.update(stream.read(_BLOCK))
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error.strerror})") from error
  return digest.hexdigest()


# ------------------------------------------------------------------------------------------- kinds of clips


def videos(split: str, data_dir: Path, path: str = "") -> ClipFiles:
  """`path/split/class/video` or `path/split/video`: files of FFmpeg's formats, by their ending, and y4m."""

  def found(folder: Path, root: Path) -> Iterator[tuple[str, Readable]]:
    for file in files_in(folder, root, (*video_files.SUFFIXES, ".y4m")):
      of_kind = raw_video.Y4mFile if file.suffix.lower() == ".y4m" else video_files.VideoFile
      yield file.name, of_kind(file)

  return laid_out("videos", split, path, data_dir, found)


def yuv(
  split: str, data_dir: Path, path: str = "", width: int = 0, height: int = 0, format: str = "yuv420p"
) -> ClipFiles:
  """Raw samples in files ending in .yuv, .rgb or .raw, laid out as `videos`, all of one size and format."""
  if not (type(width) is type(height) is int and width > 0 < height):
    raise SpecError(
      f"yuv needs the size of its frames, as in yuv(path=clips,width=352,height=288), not {width}x{height}"
    )
  raw_video.check_format(format)
  image_ops.check_size(height, width, "yuv")
  layout = raw_video.Layout(height, width, format)

  def found(folder: Path, root: Path) -> Iterator[tuple[str, Readable]]:
    for file in files_in(folder, root, raw_video.SUFFIXES):
      yield file.name, raw_video.RawFile(file, layout)

  return laid_out("yuv", split, path, data_dir, found)


# ---------------------------------------------------------------------------------------- folders and names


def laid_out(
  kind: str,
  split: str,
  path: str,
  data_dir: Path,
  found: Callable[[Path, Path], Iterator[tuple[str, Readable]]],
) -> ClipFiles:
  """The clips right in a split, without labels, or else those in its folders, which are the classes."""
  top, root = top_of(kind, split, path, data_dir)
  folders = [entry.name for entry in listed(top, root) if entry.is_dir()]
  flat = [Example(name, clip) for name, clip in found(top, root)]
  sorted_in = [
    Example(f"{folder}/{name}", clip, label)
    for label, folder in enumerate(folders)
    for name, clip in found(top / folder, root)
  ]
  if flat and sorted_in:
    raise DataError(
      f"{kind}: {top} has clips ({flat[0].id}) and folders of clips ({sorted_in[0].id}); expected one or the other"
    )
  if not flat and not sorted_in:
    raise DataError(f"{kind}: no clips in {top} nor in its folders; {contents_of(top)}")
  return ClipFiles(tuple(flat)) if flat else ClipFiles(tuple(sorted_in), tuple(folders))


def top_of(kind: str, split: str, path: str, data_dir: Path) -> tuple[Path, Path]:
  """(the folder of a split, that of the data set)."""
  root = located(kind, path, data_dir)
  top = root if split == "all" else root / split
  if not top.is_dir():
    raise DataError(f"{kind}: no split {split!r} in {root}; {contents_of(root)}")
  check_inside(top, root)
  return top, root


def files_in(folder: Path, root: Path, suffixes: tuple[str, ...]) -> list[Path]:
  """Files by their endings, in the order of their names."""
  entries = listed(folder, root)
  return [Path(entry.path) for entry in entries if entry.name.lower().endswith(suffixes) and entry.is_file()]
