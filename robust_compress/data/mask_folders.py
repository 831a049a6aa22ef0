"""Pictures with a class for every pixel: a folder of pictures, and one of masks that have their names.

images/val/a.jpg ──▶ FileSource ──┐        aachen_000000_000019_leftImg8bit.png   by naming=cityscapes
masks/val/a.png  ──▶ FileSource ──┴─▶ SegmentedFiles        …_gtFine_labelIds.png
"""

from __future__ import annotations

from pathlib import Path

from robust_compress.data import labels, layout
from robust_compress.data.files import SUFFIXES, File, FileSource, check_inside, located
from robust_compress.data.segmentations import CITYSCAPES, N_CITYSCAPES_IDS, SegmentedFiles, values, values_by_id
from robust_compress.specs import nearest
from robust_compress.types import DataError

PICTURE, MASK = "_leftImg8bit", "_gtFine_labelIds"  # how Cityscapes ends names
CITYSCAPES_VALUES = values_by_id(CITYSCAPES, N_CITYSCAPES_IDS)


def masks(
  split: str, data_dir: Path, path: str = "", images: str = "", masks: str = "", classes: str = "",
  ignore: int | None = None, shift: int = 0, naming: str = "stems",
) -> SegmentedFiles:  # fmt: skip
  """`path/images/SPLIT/a.jpg` with `path/masks/SPLIT/a.png`, at any depth; ids are the pictures' paths in their folder.

  CamVid as SegNet has it: `masks(path=camvid,images=split,masks=splitannot,classes=camvid11,ignore=11):train`. ADE20K:
  `masks(path=ADEChallengeData2016,masks=annotations/split,classes=ade150,shift=1):validation`. Cityscapes, of whose ids
  19 are classes: `masks(path=cityscapes,naming=cityscapes):val`, in leftImg8bit/SPLIT and gtFine/SPLIT.

  Args:
    images, masks: folders in `path`, in which the word split stands for the split's name.
    classes: a class list, or a text file with a name a line. The value v of a pixel is class v - shift.
    ignore: a value that does not count, as 255 never does, nor what is below `shift`.
    naming: 'stems', or 'cityscapes'.

  Raises:
    DataError: naming a picture without a mask, or a mask without a picture.
  """
  if naming not in ("stems", "cityscapes"):
    raise nearest("naming of masks", naming, ("stems", "cityscapes"))
  by_city = naming == "cityscapes"
  root = located("masks", path, data_dir)
  names = layout.class_names("masks", root, classes or ("cityscapes19" if by_city else ""))
  table = CITYSCAPES_VALUES if by_city else values(len(names), ignore, shift)
  of_pictures = layout.folder_of("masks", root, images or ("leftImg8bit/split" if by_city else "images/split"), split)
  of_masks = layout.folder_of("masks", root, masks or ("gtFine/split" if by_city else "masks/split"), split)
  pictures, masked = layout.by_name(of_pictures, SUFFIXES), layout.by_name(of_masks, SUFFIXES, "masks")
  if by_city:
    pictures, masked = _ending(pictures, PICTURE, of_pictures), _ending(masked, MASK, of_masks)
  _check_pairs(pictures, masked, of_pictures, of_masks)
  files = [File(file.relative_to(of_pictures).as_posix(), file) for file in pictures.values()]
  beside = [File(file.id, masked[name]) for name, file in zip(pictures, files, strict=True)]
  return SegmentedFiles(FileSource(tuple(files)), FileSource(tuple(beside)), tuple(pictures.values()), names, table)


def _ending(files: dict[str, Path], ending: str, folder: Path) -> dict[str, Path]:
  """Those whose names end so, by the names without it."""
  found = {name.removesuffix(ending): file for name, file in files.items() if name.endswith(ending)}
  if not found:
    raise DataError(f"masks: nothing named as Cityscapes' city/city_000000_000019{ending}.png in {folder}")
  return found


def _check_pairs(pictures: dict[str, Path], masked: dict[str, Path], of_pictures: Path, of_masks: Path) -> None:
  for here, there, what, folder in ((pictures, masked, "mask", of_masks), (masked, pictures, "picture", of_pictures)):
    lone = sorted(here.keys() - there.keys())
    if lone:
      more = f"; so are {len(lone) - 1} more" if len(lone) > 1 else ""
      raise DataError(f"{here[lone[0]]}: without a {what} of its name in {folder}{more}. Expected one each")


def labelled_frames(frames: list[tuple[str, Path]], folder: Path) -> tuple[FileSource, tuple[str, ...]]:
  """The masks of Cityscapes' labelled frames, given by (id, file), and the names of their classes.

  `folder` is that of a split: gtFine/val. Raises DataError naming a mask that is not there.
  """
  files = []
  for id, frame in frames:
    file = folder / f"{id}{MASK}.png"
    if not file.is_file():
      raise DataError(f"{frame}: its mask {file} is not there")
    check_inside(file, folder)
    files.append(File(id, file))
  return FileSource(tuple(files)), labels.class_list("cityscapes19")
