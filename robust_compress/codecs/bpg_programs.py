"""Bellard's own programs, bpgenc and bpgdec, where they are installed.

    frame[h w 3] ──▶ PNG ──bpgenc -q QP──▶ file ──bpgdec──▶ PNG ──▶ frame[h w 3]

Files pass through a temporary folder; the programs run once a picture.
"""

from __future__ import annotations

import functools
import pathlib
import re
import shutil
import subprocess
import tempfile
from typing import NamedTuple

import numpy as np
from PIL import Image

from robust_compress.codecs import bpg_container
from robust_compress.types import CodecError, SpecError

PRESETS = ("superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")  # -m 1 … 9
_TIMEOUT_S = 600


class File(NamedTuple):
  """A file with the size that its header declares."""

  height: int
  width: int
  blob: bytes


@functools.cache
def version() -> str:
  """'bpgenc 0.9.8'. Raises SpecError where the programs are not on PATH."""
  missing = [program for program in ("bpgenc", "bpgdec") if shutil.which(program) is None]
  if missing:
    where = "install libbpg (https://bellard.org/bpg) or leave the option out"
    raise SpecError(f"bpg(backend=libbpg): no {' and no '.join(missing)} on PATH; {where}")
  usage = subprocess.run(["bpgenc", "-h"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False).stdout
  found = re.search(r"version (\S+)", usage)
  return f"bpgenc {found[1]}" if found else "bpgenc of unknown version"


def encode(frame: np.ndarray, qp: int, chroma: int, depth: int, preset: str) -> bytes:
  """uint8[h w 3] to a file; as grey, where the three channels are equal."""
  with tempfile.TemporaryDirectory() as folder:
    source, target = pathlib.Path(folder, "in.png"), pathlib.Path(folder, "out.bpg")
    is_grey = (frame[..., :1] == frame[..., 1:]).all()
    Image.fromarray(frame[..., 0] if is_grey else frame).save(source, compress_level=1)
    options = {"-q": qp, "-f": chroma, "-b": depth, "-m": PRESETS.index(preset) + 1, "-e": "x265", "-o": target}
    _run("bpgenc", *(str(part) for pair in options.items() for part in pair), str(source))
    return target.read_bytes()


def read(blob: bytes) -> File:
  """Raises CodecError for what `bpg_container.read` refuses: the programs are given sound headers only."""
  contents = bpg_container.read(blob)
  return File(contents.height, contents.width, blob)


def decode(file: File) -> np.ndarray:
  """A file to uint8[h w 3]."""
  with tempfile.TemporaryDirectory() as folder:
    source, target = pathlib.Path(folder, "in.bpg"), pathlib.Path(folder, "out.png")
    source.write_bytes(file.blob)
    _run("bpgdec", "-o", str(target), str(source))
    with Image.open(target) as picture:
      return np.array(picture.convert("RGB"))


def _run(program: str, *arguments: str) -> None:
  command = [program, *arguments]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
  except (OSError, subprocess.TimeoutExpired) as error:
    raise CodecError(f"bpg: {program} did not run: {error}") from error
  if done.returncode != 0 or not pathlib.Path(arguments[arguments.index("-o") + 1]).exists():
    raise CodecError(f"bpg: {program} failed with exit code {done.returncode}: {done.stderr.strip()[-300:]}")
