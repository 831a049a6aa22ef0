"""Folders of JPEG pictures for the benchmarks to read, and a JPEG codec that counts what it is asked.

Pictures are noise with the spectrum of photographs (see `codec_stage.py`), each another shift of one of 16; class
folders carry ImageNet's names, so that any model of the table can be scored on them.
"""

import hashlib
import io
import json
import pathlib
import threading
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from codec_stage import Noise
from PIL import Image

from robust_compress.codecs import load_codec
from robust_compress.data import labels
from robust_compress.types import Clip, Coded

N_CLASSES = 10
N_OBJECTS, N_LABELS = 7, 11  # boxes of a picture, as COCO's have; and classes of masks
BOXES, MASKS = "coco(path=.,file=boxes.json,images=images):all", "masks(path=.,classes={}):all"


def write(folder: pathlib.Path, n: int, size: int, quality: int = 90) -> int:
  """Writes n pictures of size × size as folder/<wnid>/<number>.jpg; returns the bytes of all."""
  noise, n_bytes = Noise(n, size), 0
  names = labels.class_list("imagenet1k")[:N_CLASSES]
  for name in names:
    (folder / name).mkdir(parents=True)
  for index in range(n):
    buffer = io.BytesIO()
    Image.fromarray(np.roll(noise.picture(index).clip[0], 5 * (index // 16), 1)).save(buffer, "JPEG", quality=quality)
    (folder / names[index % N_CLASSES] / f"{index:06d}.jpg").write_bytes(buffer.getvalue())
    n_bytes += buffer.tell()
  return n_bytes


def write_dense(folder: pathlib.Path, n: int, size: tuple[int, int]) -> None:
  """Writes n pictures of a size, h × w, with boxes (`BOXES`) and with masks (`MASKS`, in a class list of one's own)."""
  noise, rng, classes = Noise(n, max(size)), np.random.default_rng(1), labels.class_list("coco80")
  for kind in ("images", "masks"):
    (folder / kind).mkdir(parents=True)
  images, objects = [], []
  for index in range(n):
    picture = np.roll(noise.picture(index).clip[0], 5 * (index // 16), 1)[: size[0], : size[1]]
    name, mask = f"{index:06d}", rng.integers(0, N_LABELS, (8, 8), np.uint8)
    Image.fromarray(picture).save(folder / "images" / f"{name}.jpg", quality=90)
    Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST).save(folder / "masks" / f"{name}.png")
    images.append({"id": index, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
    for _ in range(N_OBJECTS):
      corner, side = rng.uniform(0, 0.5, 2) * size[::-1], rng.uniform(0.1, 0.5, 2) * size[::-1]
      box = {"bbox": [*corner.tolist(), *side.tolist()], "area": float(side.prod()), "iscrowd": 0}
      objects.append({"id": len(objects), "image_id": index, "category_id": int(rng.integers(len(classes))), **box})
  categories = [{"id": label, "name": name} for label, name in enumerate(classes)]
  content = {"images": images, "annotations": objects, "categories": categories}
  (folder / "boxes.json").write_text(json.dumps(content))


class CountedJpeg:
  """The project's JPEG, as a codec of one's own; counts in `coded` and `decoded` how often it did what.

  `coded` has (hash of the picture, level), `decoded` the hash of the blob.
  """

  name = "counted"
  coded: ClassVar[Counter[tuple[bytes, float]]] = Counter()
  decoded: ClassVar[Counter[bytes]] = Counter()
  _lock = threading.Lock()

  def __init__(self):
    self._jpeg = load_codec("jpeg")
    self.levels, self.batched = self._jpeg.levels, self._jpeg.batched

  def fingerprint(self) -> str:
    return self._jpeg.fingerprint()

  def encode(self, clips: Sequence[Clip], levels: Sequence[float]) -> list[Coded]:
    with self._lock:
      self.coded.update((_hash(clip.tobytes()), level) for clip, level in zip(clips, levels, strict=True))
    return self._jpeg.encode(clips, levels)

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    with self._lock:
      self.decoded.update(map(_hash, blobs))
    return self._jpeg.decode(blobs)


def _hash(data: bytes) -> bytes:
  return hashlib.blake2b(data, digest_size=16).digest()
