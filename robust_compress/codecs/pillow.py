"""JPEG, WebP, AVIF and JPEG 2000, by Pillow.

    clip[t h w 3] ──save(quality)──▶ bytes of one file a frame ──open──▶ clip[t h w 3]

A still picture is the plain file; a clip of several frames is one file a frame behind a table, as in `frames.py`.
Files carry pixels only: no profile, no EXIF, no thumbnail. Decoding ignores what foreign files carry of these.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL
from PIL import AvifImagePlugin, Image, UnidentifiedImageError, features

from robust_compress.codecs import checks, frames
from robust_compress.specs import format_call
from robust_compress.types import Clip, CodecError, Coded

_END = b"\xff\xd9"  # end of image, end of codestream

# Pictures are coded in many threads at once; a pool of its own inside every AVIF decoder would only be in their way.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@dataclass(frozen=True)
class PillowCodec:
  """One of Pillow's lossy formats.

  Levels run from low rate to high: `quality` for JPEG, WebP and AVIF, decibels for JPEG 2000. Any level between the
  ends of `levels` may be asked for. Bytes and pixels depend on what `fingerprint()` names and on nothing else.

  Raises:
    SpecError: an option outside its choices; names them.
    LevelError: a level outside `levels[0]..levels[-1]`, or a fraction where levels are whole; names the range.
    CodecError: a picture that the format cannot hold; bytes that are not this format, are cut short, or declare more
      than `frames.MAX_PIXELS` pixels.
  """

  name: str
  format: str  # Pillow's name of it
  levels: tuple[float, ...]
  unit: str  # what a level is
  libraries: str  # that make the bytes and pixels, with versions
  options: Mapping[str, Any]  # as the user may give them
  save: Mapping[str, Any]  # arguments of Image.save, next to the level's own
  batched: bool = field(default=False, init=False)

  def fingerprint(self) -> str:
    return f"{format_call(self.name, self.options)}, pillow {PIL.__version__}, {self.libraries}"

  def check_level(self, level: float) -> None:
    checks.level(self.name, level, (self.levels[0], self.levels[-1]), self.unit, self.unit == "quality")

  def encode(self, clips: Sequence[Clip], levels: Sequence[float]) -> list[Coded]:
    """uint8[t h w 3] clips to files, one level each. Releases the GIL while it codes (JPEG 2000 does not)."""
    return [Coded(self._encode_one(clip, level)) for clip, level in zip(clips, levels, strict=True)]

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    """Files to uint8[t h w 3] clips. Nothing is allocated before the declared size is checked."""
    return [frames.decode_frames(blob, self.name, self._pixels, self._open) for blob in blobs]

  def _encode_one(self, clip: Clip, level: float) -> bytes:
    self.check_level(level)
    frames.check_clip(self.name, clip)
    arguments = {"quality": int(level)} if self.unit == "quality" else {"quality_layers": [float(level)]}
    return frames.encode_frames(clip, lambda frame: self._save(frame, arguments))

  def _save(self, frame: np.ndarray, arguments: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    try:
      Image.fromarray(frame).save(buffer, self.format, **self.save, **arguments)
    except (OSError, ValueError, RuntimeError, SystemError) as error:
      height, width = frame.shape[:2]
      raise CodecError(f"{self.name}: cannot code a picture of {width}x{height} pixels: {error}") from error
    return buffer.getvalue()

  def _open(self, file: bytes) -> Image.Image:
    """The file's header, read and checked; its pixels are still coded."""
    if self.format in ("JPEG", "JPEG2000") and not file.endswith(_END):  # their decoders may fill the rest with grey
      raise CodecError(f"{self.name}: {len(file)} bytes that do not end in the end marker; the file is cut short")
    try:
      picture = Image.open(io.BytesIO(file), formats=[self.format])
    except UnidentifiedImageError as error:  # its own message is of the object that held the bytes
      raise CodecError(f"{self.name}: {len(file)} bytes are not a {self.format} file; its header is not one") from error
    except Exception as error:  # damaged bytes surface as nearly any type
      raise CodecError(f"{self.name}: {len(file)} bytes are not a {self.format} file: {error}") from error
    if getattr(picture, "n_frames", 1) != 1:
      raise CodecError(f"{self.name}: an animation of {picture.n_frames} frames; expected one picture")
    return picture

  def _pixels(self, picture: Image.Image) -> np.ndarray:
    try:
      return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except Exception as error:
      raise CodecError(f"{self.name}: damaged or cut short: {error}") from error


# ----------------------------------------------------------------------------------------------- formats


def jpeg(
  *, subsampling: int = 420, optimize: bool = False, progressive: bool = False, backend: str = "pillow"
) -> PillowCodec:
  """JPEG as `Image.save(quality=…)` writes it: baseline with the standard's Huffman tables, unless options say else.

  Quality 0 is no level: libjpeg makes it 1, and Pillow 75. `backend=imagecodecs` codes equal bytes and pixels sooner,
  where the extra is installed that brings it.
  """
  checks.choice("jpeg", "backend", backend, ("pillow", "imagecodecs"))
  save = {"subsampling": _subsampling("jpeg", subsampling), "optimize": optimize, "progressive": progressive}
  levels = (1, 5, 10, 15, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 100)
  library = f"libjpeg-turbo {features.version('libjpeg_turbo') or 'absent, libjpeg ' + str(features.version('jpg'))}"
  options = {"subsampling": subsampling, "optimize": optimize, "progressive": progressive}
  codec = PillowCodec("jpeg", "JPEG", levels, "quality", library, options, save)
  if backend == "pillow":
    return codec
  from robust_compress.codecs import optional

  return optional.faster_jpeg(codec)


def webp(*, method: int = 4) -> PillowCodec:
  """Lossy WebP (always 4:2:0). `method` runs from 0, fast, to 6, small files."""
  checks.choice("webp", "method", method, range(7))
  levels = (0, 1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
  library = f"libwebp {features.version('webp')}"
  return PillowCodec("webp", "WEBP", levels, "quality", library, {"method": method}, {"method": method})


def avif(*, speed: int = 6, subsampling: int = 420) -> PillowCodec:
  """AVIF by libaom. `speed` runs from 0, small files, to 10. One thread a picture: more would change the bytes."""
  checks.choice("avif", "speed", speed, range(11))
  sampling = _subsampling("avif", subsampling)
  levels = (0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
  coders = ", ".join(f"{name} {AvifImagePlugin.get_codec_version(name)}" for name in ("aom", "dav1d"))
  library = f"libavif {features.version('avif')}, {coders}"
  save = {"speed": speed, "subsampling": sampling, "codec": "aom", "max_threads": 1}
  return PillowCodec("avif", "AVIF", levels, "quality", library, {"speed": speed, "subsampling": subsampling}, save)


def jpeg2000() -> PillowCodec:
  """JPEG 2000 with the irreversible (9/7) wavelet and colour transform, one quality layer.

  A level is the PSNR in dB that the encoder aims at for the transformed components; pixels come within about 2 dB.
  """
  levels = (20, 22.5, 25, 27.5, 30, 32.5, 35, 37.5, 40, 42.5, 45, 47.5, 50)
  save = {"quality_mode": "dB", "irreversible": True, "mct": 1}
  return PillowCodec("jpeg2000", "JPEG2000", levels, "PSNR in dB", f"openjpeg {features.version('jpg_2000')}", {}, save)


def _subsampling(codec: str, value: int) -> str:
  checks.choice(codec, "subsampling", value, (420, 444))
  return {420: "4:2:0", 444: "4:4:4"}[value]
