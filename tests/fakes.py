"""Small stand-ins that several tests share: pictures with structure, and a source of them in memory."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import time

import numpy as np
import pytest

from robust_compress.codecs import CODECS, load_codec
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.types import CodecError, Coded, DataError, Picture, SpecError


def installed_codecs() -> list[str]:
  """The codecs of the table whose libraries are here: some are extras."""
  names = []
  for name in CODECS:
    with contextlib.suppress(SpecError):
      load_codec(name)
      names.append(name)
  return names


def spec(name: str) -> str:
  """How tests of all codecs call one: those that are networks get small random weights."""
  from tests.small_networks import small_weights  # which imports jax

  return f"{name}(weights={small_weights(name)})" if name in NETWORKS else name


def codec_params(trained: bool = False) -> list:
  """Every codec of the table as a parameter of a test; one whose extra is absent is skipped, and the report says so.

  `trained` leaves out networks without weights in this package: random ones do not keep a picture.
  """
  here = installed_codecs()
  names = [name for name in CODECS if not trained or name not in NETWORKS or weights.shipped(name)]
  marks = {name: [] if name in here else [pytest.mark.skip(reason=f"the extra of {name} is absent")] for name in names}
  return [pytest.param(name, marks=marks[name]) for name in names]


def photo(height: int = 48, width: int = 64, seed: int = 0, n_frames: int = 1) -> np.ndarray:
  """uint8[t h w 3] with smooth colour, an edge and texture, so that codecs behave as on photographs."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / max(height, width)
  phase, tilt = rng.uniform(0, 6, 3), rng.uniform(2, 9, 3)
  frames = []
  for t in range(n_frames):
    smooth = 128 + 70 * np.sin(phase + tilt * (x + 0.02 * t)[..., None] + 4 * y[..., None])
    edge = 40 * (x + 0.02 * t > 0.3 + 0.4 * y)[..., None]
    frames.append(smooth + edge + rng.normal(0, 6, (height, width, 1)))
  return np.clip(frames, 0, 255).astype(np.uint8)


class MemorySource:
  """Clips in memory as a `types.Source`. Indices in `bad` raise DataError, as unreadable files do."""

  classes = ("dark", "light")

  def __init__(self, clips, ids=None, bad=()):
    self.clips, self.bad = list(clips), frozenset(bad)
    self.ids = list(ids) if ids is not None else [f"picture/{i:04d}.png" for i in range(len(self.clips))]
    self.reads: list[int] = []

  def __len__(self) -> int:
    return len(self.clips)

  def id(self, index: int) -> str:
    return self.ids[index]

  def target(self, index: int) -> dict[str, np.ndarray]:
    return {"label": np.int32(self.clips[index].mean() > 127)}

  def picture(self, index: int) -> Picture:
    self.reads.append(index)
    if index in self.bad:
      raise DataError(f"{self.ids[index]}: truncated")
    return Picture(self.clips[index], None)

  def fingerprint(self) -> str:
    digest = hashlib.sha256(repr(self.ids).encode())
    for clip in self.clips:
      digest.update(clip.tobytes())
    return digest.hexdigest()[:16]


class ShiftCodec:
  """Keeps `level` bits of every sample. Batched like a network: one shape a call, pixels from the encoder."""

  name, levels, batched = "shift", (1, 2, 4, 6, 8), True

  def __init__(self, *, refuse: int = 0):
    self.refuse = refuse  # pictures of this width cannot be coded
    self.batches: list[int] = []

  def fingerprint(self) -> str:
    return "shift 1"

  def encode(self, clips, levels):
    self.batches.append(len(clips))
    if len({clip.shape for clip in clips}) != 1 or clips[0].shape[2] == self.refuse:
      raise CodecError(f"shift: cannot code {[clip.shape for clip in clips]}")
    kept = [clip >> (8 - int(level)) << (8 - int(level)) for clip, level in zip(clips, levels, strict=True)]
    return [Coded(json.dumps(pixels.shape).encode() + b"|" + pixels.tobytes(), pixels) for pixels in kept]

  def decode(self, blobs):
    parts = [blob.split(b"|", 1) for blob in blobs]
    return [np.frombuffer(data, np.uint8).reshape(json.loads(shape)) for shape, data in parts]


DARK = 125  # mean of the samples of a clip up to which `Fallible` fails


class Fallible:
  """A learned codec in miniature: WebP, but of dark pictures it knows the highest two bits only."""

  name, levels, batched, reconstructs = "fallible", (1, 10, 30, 60, 90), False, True

  def __init__(self):
    self.webp = load_codec("webp")

  def fingerprint(self) -> str:
    return f"fallible 1 of {self.webp.fingerprint()}"

  def encode(self, clips, levels, reconstruct=False):
    known = [clip if clip.mean() > DARK else clip & 0xC0 | 0x20 for clip in clips]
    coded = self.webp.encode(known, levels)
    return [one._replace(pixels=self.decode([one.blob])[0]) for one in coded] if reconstruct else coded

  def decode(self, blobs):
    return self.webp.decode(blobs)


class Unruly:
  """A codec whose decoder does what its blob says: what foreign streams may make a library do."""

  name, levels, batched = "unruly", (1, 2), False

  def encode(self, clips, levels):
    raise CodecError("unruly: decodes only")

  def decode(self, blobs):
    return [getattr(self, blob.decode())() for blob in blobs]

  def black(self):
    return np.zeros((2, 3, 4, 3), np.uint8)

  def print(self):
    os.write(1, b"noise on the pipe\n")
    os.write(2, b"x" * 1_000_000)
    return self.black()

  def crash(self):
    ctypes.string_at(0)

  def leave(self):
    os._exit(3)

  def spin(self):
    while True:
      pass

  def sleep(self):
    time.sleep(3600)

  def fill(self):
    return np.ones((1, 40_000, 40_000, 3), np.uint8)

  def fill_quietly(self):
    try:
      self.fill()
    except MemoryError as error:
      raise CodecError("unruly: damaged") from error

  def stumble(self):
    raise IndexError("list index out of range")

  def grey(self):
    return np.zeros((1, 3, 4), np.uint8)
