"""Clips whose frames are picture files: a folder a clip, or Cityscapes' sequences, where names tell the clips apart.

path/val/surfing/a/0001.png, …                        ──frames─────────────────────┬─▶ ClipFiles
path/val/lindau/lindau_000003_000000_leftImg8bit.png  ──frames, naming=cityscapes──┘
masks/val/lindau/lindau_000003_000019_gtFine_labelIds.png, of the labelled frames  ──▶ SegmentedClips
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robust_compress.data import files, image_ops, mask_folders
from robust_compress.data.clips import ClipFiles, Example, Readable, files_in, laid_out, top_of
from robust_compress.data.files import contents_of, listed
from robust_compress.data.segmentations import SegmentedClips
from robust_compress.data.video_ops import Choose
from robust_compress.specs import nearest
from robust_compress.types import Clip, DataError, SpecError

SNIPPET, LABELLED = 30, 19  # frames of a Cityscapes snippet, and the one of them, from 0, that has labels
_CITYSCAPES = re.compile(r"(.+_\d{6})_(\d{6})_leftImg8bit\.\w+")


def frames(
  split: str, data_dir: Path, path: str = "", naming: str = "folders", masks: str = ""
) -> ClipFiles | SegmentedClips:
  """`path/split/class/clip/frame` or `path/split/clip/frame`: a folder a clip, frames by the numbers in their names.

  naming=cityscapes: `path/split/city/city_000000_000019_leftImg8bit.png`, as Cityscapes' sequences are; see
  `_snippets`. There, masks=gtFine is a second folder, which has `gtFine/split/city/…_gtFine_labelIds.png` for the
  labelled frame of each: under Reich's view of eight frames at stride 3 the sixth, frames=5. No other can be scored.
  """
  if naming == "cityscapes":
    clips = _cityscapes(split, path, data_dir)
    return _with_masks(clips, top_of("frames", split, masks, data_dir)[0]) if masks else clips
  if naming != "folders":
    raise nearest("naming of frames", naming, ("folders", "cityscapes"))
  if masks:
    raise SpecError("frames(masks=…): masks are those of Cityscapes' labelled frames; expected naming=cityscapes")

  def found(folder: Path, root: Path) -> Iterator[tuple[str, Readable]]:
    for entry in listed(folder, root):
      if entry.is_dir() and (there := files_in(Path(entry.path), root, files.SUFFIXES)):
        yield entry.name, FrameFiles(tuple(sorted(there, key=by_number)))

  return laid_out("frames", split, path, data_dir, found)


@dataclasses.dataclass(frozen=True)
class FrameFiles:
  """A picture file a frame."""

  files: tuple[Path, ...]
  kind = "frames"

  def frames(self, choose: Choose) -> Clip:
    """uint8[t h w 3]. Raises DataError naming a frame that cannot be read, or is of another size than the first."""
    wanted = [self.files[index] for index in choose(len(self.files))]
    read = ((files.read_file(path), str(path)) for path in wanted)
    return image_ops.decode_clip(read, len(wanted), str(wanted[0].parent))


def by_number(path: Path) -> list[tuple[str, int]]:
  """Sorts frame_2 before frame_10."""
  return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", path.name)]


def _cityscapes(split: str, path: str, data_dir: Path) -> ClipFiles:
  """The snippets of all cities. An id is that of the labelled frame: 'lindau/lindau_000003_000019'."""
  top, root = top_of("frames", split, path, data_dir)
  examples = []
  for city in (entry.name for entry in listed(top, root) if entry.is_dir()):
    sequences: dict[str, dict[int, Path]] = {}
    for file in files_in(top / city, root, files.SUFFIXES):
      if match := _CITYSCAPES.fullmatch(file.name):
        sequences.setdefault(match[1], {})[int(match[2])] = file
    for sequence, numbered in sequences.items():
      for labelled, snippet in _snippets(f"{top / city}/{sequence}", numbered):
        examples.append(Example(f"{city}/{sequence}_{labelled:06d}", FrameFiles(snippet)))
  if not examples:
    raise DataError(
      f"frames: nothing named as Cityscapes' city/city_000000_000019_leftImg8bit.png in {top}; {contents_of(top)}"
    )
  return ClipFiles(tuple(examples))


def _with_masks(clips: ClipFiles, folder: Path) -> SegmentedClips:
  shown = tuple(clip.files[LABELLED] for _, clip, _ in clips.examples)
  masks, classes = mask_folders.labelled_frames([(e.id, file) for e, file in zip(clips.examples, shown)], folder)
  return SegmentedClips(clips, masks, shown, classes, mask_folders.CITYSCAPES_VALUES, (LABELLED, SNIPPET))


def _snippets(name: str, numbered: dict[int, Path]) -> Iterator[tuple[int, tuple[Path, ...]]]:
  """(number of the labelled frame, all frames) of each snippet of a sequence.

  A snippet is the 30 frames from 19 before the labelled one to 10 after it. Most cities number each from 0; in others,
  such as Frankfurt, numbers run on through a drive, and snippets are where they have no gap, or follow each other.
  """
  numbers = np.array(sorted(numbered))
  for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
    if len(run) % SNIPPET:
      raise DataError(
        f"{name}: frames {run[0]} to {run[-1]} are {len(run)}; a snippet of Cityscapes has {SNIPPET}. Is one missing?"
      )
    for start in range(0, len(run), SNIPPET):
      snippet = run[start : start + SNIPPET].tolist()
      yield snippet[LABELLED], tuple(numbered[number] for number in snippet)
