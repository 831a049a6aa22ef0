"""`scenes`, the embedded data set: procedural pictures, the same bits everywhere, in which fine texture matters.

    Scenes(split, size, seed, n) ──picture(i)──▶ uint8[1 h w 3]      ──target(i)──▶ {'label': int32[]}
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
from robust_compress.data.scenes.draws import Draws
from robust_compress.data.scenes.renderer import VERSION, Rendered, render, render_clip
from robust_compress.data.scenes.scene import CLASSES, Scene, draw_scene
from robust_compress.types import DataError, Picture, SpecError

SPLITS = {"train": 4000, "val": 500, "test": 1000}  # and how many pictures each has unless told
_MIN_SIZE, _MAX_SIZE = 16, 2048
_KEPT_BYTES = 192_000_000  # of rendered pictures that a source keeps in memory


class Scenes:
  """Pictures of one object of one of ten classes, as many of each class, in an order that shows no class.

  Args:
    split: 'train', 'val' or 'test'; splits share no scene. The first k of n pictures do not depend on n.
    size: side of the pictures, in pixels. Another size shows the same scenes, with finer or coarser detail. The texture
      of a class has waves of 3 to 5.2 pixels at 160.
    seed: of the data set; another seed shows other scenes.
    n: number of pictures, by default that of `SPLITS`.

  Raises:
    SpecError: an unknown split, or an option out of its range.
  """

  classes = CLASSES

  def __init__(self, split: str = "train", size: int = 160, seed: int = 0, n: int | None = None):
    if split not in SPLITS:
      raise specs.nearest("split of scenes", split, SPLITS)
    if not _MIN_SIZE <= size <= _MAX_SIZE:
      raise SpecError(f"scenes(size={size}): size runs from {_MIN_SIZE} to {_MAX_SIZE} pixels")
    if not 0 <= seed < 2**63:
      raise SpecError(f"scenes(seed={seed}): seed runs from 0 to 2^63 - 1")
    if n is not None and n < 1:
      raise SpecError(f"scenes(n={n}): n is at least 1")
    self.split, self.size, self.seed = split, size, seed
    self.n = SPLITS[split] if n is None else n
    self._kept: dict[tuple[int, int], np.ndarray] = {}

  def __len__(self) -> int:
    return self.n

  def id(self, index: int) -> str:
    return f"{self.split}-{self._checked(index):06d}"

  def target(self, index: int) -> dict[str, np.ndarray]:
    """{'label': int32[]}."""
    return {"label": np.array(self._label(self._checked(index)), np.int32)}

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
    return draw_scene(self._key(self._checked(index)), label=self._label(index))

  def rendered(self, index: int, time: float = 0.0) -> Rendered:
    """The picture with the truth about it, at a moment of its motion (in frames)."""
    return render(self.scene(index), self.size, time)

  def fingerprint(self) -> str:
    """Version and options, and a hash of one small picture: it would notice arithmetic that is not IEEE 754."""
    options = f"scenes {VERSION} split={self.split} size={self.size} seed={self.seed} n={self.n}"
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
