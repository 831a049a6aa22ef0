"""What codecs made of pictures, kept as it is measured, so that nothing is measured twice.

    (pixels, codec, level) ──▶ one line of <output>/measured/<codec>-<key>.jsonl

A codec of other options, versions or metric code has a file of its own, and a picture is known by its pixels, so that
renamed pictures are still known and changed ones are not. A process killed while it writes leaves a last line without
an end, which is cut off when the file is next opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from robust_compress import files
from robust_compress.inspect import quality
from robust_compress.specs import key_of
from robust_compress.types import Clip, Codec


class Measurement(NamedTuple):
  """One picture, coded once."""

  picture: str  # its id when it was measured
  content: str  # `content_of` its clip
  level: float
  n_bytes: int
  n_pixels: int
  mse: float
  ms_ssim: float  # NaN for a picture too small to have one
  encode_s: float
  decode_s: float

  @property
  def bpp(self) -> float:
    return 8 * self.n_bytes / self.n_pixels

  @property
  def psnr(self) -> float:
    """In dB; inf where not a sample differs."""
    return quality.psnr_of(self.mse)


def content_of(clip: Clip) -> str:
  """16 hex digits of the SHA-256 of a clip's shape and samples."""
  digest = hashlib.sha256(repr(clip.shape).encode())
  for frame in clip:
    digest.update(frame.tobytes())
  return digest.hexdigest()[:16]


class Log:
  """All measurements of one codec under `directory`, in memory (some 300 bytes each) and on disk.

  One process writes at a time; its threads may look things up while it does.

  Raises:
    StoreError: the folder cannot be written, or its disk is full.
  """

  def __init__(self, directory: str | os.PathLike, codec: Codec, name: str):
    head = {"codec": name, "fingerprint": codec.fingerprint(), "quality": quality.VERSION}
    file = re.sub(r"[^\w.-]+", "-", codec.name) + f"-{key_of(head)}.jsonl"
    self.path = Path(directory) / "measured" / file
    if not self.path.exists():
      files.write_atomic(self.path, json.dumps(head).encode() + b"\n")
    whole, _, torn = self.path.read_bytes().rpartition(b"\n")
    if torn:
      os.truncate(self.path, len(whole) + 1)
    self._known = {(m.content, m.level): m for m in _parsed(whole.splitlines()[1:])}

  def find(self, content: str, level: float) -> Measurement | None:
    return self._known.get((content, level))

  def add(self, measurements: Iterable[Measurement]) -> None:
    """Writes them behind the others, at once."""
    measurements = list(measurements)
    lines = [json.dumps([None if value != value else value for value in one]) for one in measurements]
    with files.explained(self.path), open(self.path, "a", encoding="utf-8") as file:
      file.write("".join(f"{line}\n" for line in lines))
    self._known |= {(one.content, one.level): one for one in measurements}


def _parsed(lines: Iterable[bytes]) -> Iterable[Measurement]:
  """Those lines that are whole; what a damaged one held is measured again."""
  for line in lines:
    try:
      values = json.loads(line)
      yield Measurement(*(math.nan if value is None else value for value in values))
    except (ValueError, TypeError):
      continue
