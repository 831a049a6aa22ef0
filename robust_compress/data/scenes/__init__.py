"""`scenes`, the embedded data set: procedural pictures, the same bits everywhere, in which fine texture matters.

    Scenes(split, size, seed, n) ──picture(i)──▶ uint8[1 h w 3]      ──target(i)──▶ {'label': int32[]}, boxes or masks
                                 └─rendered(i)─▶ Rendered: boxes, masks, depth, keypoints, flow

Ten classes are five outlines in two fine textures each (`scene.KINDS`), on grounds with natural spectra, among clutter,
under varying light. Heavy compression leaves the outline and takes the texture, and with it half of the class.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from robust_compress import specs
from robust_compress.data.labels import BACKGROUND
from robust_compress.data.scenes.draws import Draws
from robust_compress.data.scenes.renderer import VERSION, Rendered, render, render_clip
from robust_compress.data.scenes.scene import CLASSES, Scene, draw_scene
from robust_compress.types import DataError, Picture, SpecError

SPLITS = {"train": 4000, "val": 500, "test": 1000}  # and how many pictures each has unless told
_MIN_SIZE, _MAX_SIZE = 16, 2048
TRUTHS = ("label", "boxes", "segmentation")
MAX_OBJECTS = 32
_KEPT_BYTES = 192_000_000  # of rendered pictures that a source keeps in memory, and of masks
_N_OBJECTS = 4  # stream of draws


class Scenes:
  """Pictures of an object of one of ten classes, as many of each class, in an order that shows no class.

  Args:
    split: 'train', 'val' or 'test'; splits share no scene. The first k of n pictures do not depend on n.
    size: side of the pictures, in pixels. Another size shows the same scenes, with finer or coarser detail. The texture
      of a class has waves of 3 to 5.2 pixels at 160.
    seed: of the data set; another seed shows other scenes.
    n: number of pictures, by default that of `SPLITS`.
    truth: what targets say: the 'label' of the main object, 'boxes' of all of which a pixel is seen, their areas being
      what is seen of them, or 'segmentation', for which a class 'background' stands before the ten.
    objects: how many there are at most: from one to so many a picture, of which all but the main one are smaller and of
      any class.

  Raises:
    SpecError: an unknown split, or an option out of its range.
  """

  def __init__(
    self, split: str = "train", size: int = 160, seed: int = 0, n: int | None = None, truth: str = "label",
    objects: int = 1,
  ):  # fmt: skip
    if split not in SPLITS:
      raise specs.nearest("split of scenes", split, SPLITS)
    if not _MIN_SIZE <= size <= _MAX_SIZE:
      raise SpecError(f"scenes(size={size}): size runs from {_MIN_SIZE} to {_MAX_SIZE} pixels")
    if not 0 <= seed < 2**63:
      raise SpecError(f"scenes(seed={seed}): seed runs from 0 to 2^63 - 1")
    if n is not None and n < 1:
      raise SpecError(f"scenes(n={n}): n is at least 1")
    if truth not in TRUTHS:
      raise specs.nearest("truth of scenes", truth, TRUTHS)
    if not 1 <= objects <= MAX_OBJECTS:
      raise SpecError(f"scenes(objects={objects}): objects runs from 1 to {MAX_OBJECTS}")
    self.split, self.size, self.seed, self.truth, self.objects = split, size, seed, truth, objects
    self.n = SPLITS[split] if n is None else n
    # The background of a segmentation is the backdrop, and the clutter, which is there to be mistaken for an object.
    self.classes = (BACKGROUND, *CLASSES) if truth == "segmentation" else CLASSES
    self._kept: dict[tuple[int, int], np.ndarray] = {}
    self._truths: dict[int, dict[str, np.ndarray]] = {}

  def __len__(self) -> int:
    return self.n

  def id(self, index: int) -> str:
    return f"{self.split}-{self._checked(index):06d}"

  @property
  def labelled_frame(self) -> tuple[int, int | None] | None:
    """Of a scene in motion the frame that boxes and masks are of, for `inputs.check_labelled`; a label is of all."""
    return None if self.truth == "label" else (0, None)

  def target(self, index: int) -> dict[str, np.ndarray]:
    """{'label': int32[]}; or boxes, k being `objects`, or a segmentation, of the picture at time 0."""
    if self.truth == "label":
      return {"label": np.array(self._label(self._checked(index)), np.int32)}
    found = self._truths.get(index)
    if found is None:
      found = self._boxes(index) if self.truth == "boxes" else self._segmentation(index)
      if (len(self._truths) + 1) * sum(value.nbytes for value in found.values()) <= _KEPT_BYTES:
        self._truths[index] = found
    return {name: value.copy() for name, value in found.items()}

  def _boxes(self, index: int) -> dict[str, np.ndarray]:
    rendered = self.rendered(index)
    seen = np.bincount(rendered.instances.ravel(), minlength=len(rendered.scene.objects) + 1)[1:]
    missing = self.objects - len(rendered.visible)
    return {
      "boxes": np.pad(rendered.boxes, ((0, missing), (0, 0))),
      "box_labels": np.pad(rendered.labels, (0, missing), constant_values=-1),
      "box_areas": np.pad(seen[list(rendered.visible)].astype(np.float32), (0, missing)),
      "box_kinds": np.zeros(self.objects, np.uint8),
      "size": np.full(2, self.size, np.int32),
    }

  def _segmentation(self, index: int) -> dict[str, np.ndarray]:
    semantic = self.rendered(index).semantic
    return {
      "segmentation": np.where(semantic > len(CLASSES), np.uint8(0), semantic),
      "size": np.full(2, self.size, np.int32),
    }

  def picture(self, index: int) -> Picture:
    """uint8[1 h w 3], the caller's own; there is no file, so no bytes are known."""
    return Picture(self._image(index)[None].copy(), None)

  def frames(self, index: int, choose: Callable[[None], Sequence[int]]) -> np.ndarray:
    """uint8[t h w 3]: the scene in motion, at the moments chosen. It has no end, and frame 0 is the picture."""
    return np.stack([self._image(index, time) for time in choose(None)])

  def _image(self, index: int, time: int = 0) -> np.ndarray:
    """uint8[h w 3]. Must not be written to.

    Rendered once, as far as memory is set aside: a study reads every picture again for each point. None is dropped for
    another: data is read from end to end, and then whatever was read last is what is wanted last.
    """
    image = self._kept.get((index, time))
    if image is None:
      image = self.rendered(index, float(time)).image
      if (len(self._kept) + 1) * image.nbytes <= _KEPT_BYTES:
        self._kept[index, time] = image  # threads that meet here keep equal pictures
    return image

  def scene(self, index: int) -> Scene:
    """What is in the picture."""
    key = self._key(self._checked(index))
    n_objects = 1 + Draws(key, _N_OBJECTS).integer(self.objects)
    return draw_scene(key, n_objects, label=self._label(index))

  def rendered(self, index: int, time: float = 0.0) -> Rendered:
    """The picture with the truth about it, at a moment of its motion (in frames)."""
    return render(self.scene(index), self.size, time)

  def fingerprint(self) -> str:
    """Version and options, and a hash of one small picture: it would notice arithmetic that is not IEEE 754."""
    options = f"scenes {VERSION} split={self.split} size={self.size} seed={self.seed} n={self.n}"
    if self.objects > 1:
      options += f" objects={self.objects}"
    if self.truth != "label":
      options += f" truth={self.truth}"
    return f"{options} probe={probe()}"

  def _key(self, index: int) -> tuple[int, int, int]:
    return self.seed, list(SPLITS).index(self.split), index

  def _label(self, index: int) -> int:
    """Every run of ten pictures has every class once, in an order of its own."""
    block, place = divmod(index, len(CLASSES))
    return _order(self._key(block))[place]

  def _checked(self, index: int) -> int:
    if not 0 <= index < self.n:
      raise DataError(f"scenes:{self.split}[{index}]: the split has {self.n} pictures, numbered from 0")
    return index


@functools.lru_cache(maxsize=1024)
def _order(key: tuple[int, int, int]) -> tuple[int, ...]:
  draws = Draws(key, 0)
  return tuple(sorted(range(len(CLASSES)), key=[draws.uniform() for _ in CLASSES].__getitem__))


@functools.cache
def probe() -> str:
  """Hash of a picture of 64 a side: the same on every machine for one VERSION."""
  image = render(draw_scene((0, 0, 0), n_objects=len(CLASSES)), 64).image
  return hashlib.sha256(image.tobytes()).hexdigest()[:16]


__all__ = ["CLASSES", "SPLITS", "VERSION", "Rendered", "Scene", "Scenes", "draw_scene", "render", "render_clip"]
