"""Codecs whose libraries are extras: JPEG XL, HEIC, and a faster way to the same JPEG.

    jxl, heic                     as pillow.py, by plugins of Pillow        pip install 'robust-compress[jxl]', '[heic]'
    jpeg(backend=imagecodecs)     the bytes and pixels of jpeg, sooner      pip install 'robust-compress[fast]'

Without its library a codec is a SpecError that names the extra; nothing else of the table is touched.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import struct
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from robust_compress.codecs import checks, frames
from robust_compress.codecs.pillow import PillowCodec
from robust_compress.types import CodecError, SpecError

_LEVELS = (0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)


def _extra(codec: str, module: str, extra: str) -> tuple[ModuleType, str]:
  """(module, version of its package) of an extra. Raises SpecError where it is not installed."""
  package = {"pillow_jxl": "pillow-jxl-plugin", "pillow_heif": "pillow-heif"}.get(module, module)
  try:
    return importlib.import_module(module), f"{package} {importlib.metadata.version(package)}"
  except ImportError as error:
    raise SpecError(f"{codec} needs {package} ({error}); pip install 'robust-compress[{extra}]'") from error


# ----------------------------------------------------------------------------------------------- JPEG XL


def jxl(*, effort: int = 7) -> PillowCodec:
  """JPEG XL by libjxl, as bare codestreams. `effort` runs from 1, fast, to 9, small files.

  Quality is libjxl's: 90 is the Butteraugli distance 1, and every ten below it about one more. 100 would be lossless.
  """
  checks.choice("jxl", "effort", effort, range(1, 10))
  plugin, library = _extra("jxl", "pillow_jxl", "jxl")
  plugin.JpegXLImagePlugin.DECODE_THREADS = 0  # pictures are coded in many threads at once already
  save = {"effort": effort, "num_threads": 0}
  return _JxlCodec("jxl", "JXL", _LEVELS, "quality", library, {"effort": effort}, save)


class _JxlCodec(PillowCodec):
  """The plugin decodes a file as it opens it, so the declared size is read here before."""

  def _open(self, file: bytes) -> Image.Image:
    frames.check_size(self.name, (1, *jxl_size(file)))
    return super()._open(file)


def jxl_size(file: bytes) -> tuple[int, int]:
  """(height, width) as the SizeHeader of ISO/IEC 18181-1 declares them. Its fields are read from the low bits up."""
  bits = int.from_bytes(_jxl_codestream(file)[2:14], "little")

  def take(n: int) -> int:
    nonlocal bits
    value, bits = bits & ((1 << n) - 1), bits >> n
    return value

  in_eights = take(1)

  def side() -> int:
    return 8 * (1 + take(5)) if in_eights else 1 + take((9, 13, 18, 30)[take(2)])

  height, ratio = side(), take(3)
  if not ratio:
    return height, side()
  over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
  return height, height * over // under


def _jxl_codestream(file: bytes) -> bytes:
  """The start of the codestream of a file, which may be inside a box."""
  if file[:2] == b"\xff\x0a":
    return file
  at = 0
  while at + 16 <= len(file):
    size, kind = struct.unpack_from(">I4s", file, at)
    start = at + (16 if size == 1 else 8)
    if kind in (b"jxlc", b"jxlp"):
      return file[start + (4 if kind == b"jxlp" else 0) :]
    size = int.from_bytes(file[at + 8 : start], "big") if size == 1 else size
    if size < 8:
      break
    at += size
  raise CodecError(f"jxl: {len(file)} bytes are not a JXL file: no codestream is in them")


# -------------------------------------------------------------------------------------------------- HEIC


def heic(*, chroma: int = 420) -> PillowCodec:
  """HEIC as phones write it: HEVC intra by x265 in libheif's container, decoded by libde265. 420 or 444."""
  checks.choice("heic", "chroma", chroma, (420, 444))
  plugin, library = _extra("heic", "pillow_heif", "heic")
  plugin.register_heif_opener(thumbnails=False, decode_threads=1)
  info = plugin.libheif_info()
  coders = [text for kind in ("encoders", "decoders") for text in info[kind].values() if "265" in text]
  libraries = ", ".join([library, f"libheif {info['libheif']}", *coders])
  return PillowCodec("heic", "HEIF", _LEVELS, "quality", libraries, {"chroma": chroma}, {"chroma": chroma})


# ------------------------------------------------------------------------------------------- faster JPEG


def faster_jpeg(codec: PillowCodec) -> PillowCodec:
  """Pillow's JPEG codec with libjpeg-turbo called by imagecodecs instead: equal bytes and pixels.

  Colour pictures of 8 bits are decoded by it; grey and CMYK files, which this project does not write, by Pillow.
  """
  imagecodecs, library = _extra("jpeg(backend=imagecodecs)", "imagecodecs", "fast")
  if codec.options["progressive"]:
    raise SpecError("jpeg(backend=imagecodecs): writes no progressive files; leave progressive=True to backend=pillow")
  libraries = f"{library}, {imagecodecs.jpeg8_version()}"
  options = {**codec.options, "backend": "imagecodecs"}
  fields = {field.name: getattr(codec, field.name) for field in dataclasses.fields(codec) if field.init}
  return _FastJpegCodec(**{**fields, "libraries": libraries, "options": options})


class _Jpeg(NamedTuple):
  """A JPEG file of three components, and what it declares."""

  file: bytes
  height: int
  width: int


class _FastJpegCodec(PillowCodec):
  def _save(self, frame: np.ndarray, arguments: Mapping[str, Any]) -> bytes:
    imagecodecs = importlib.import_module("imagecodecs")
    subsampling = str(self.options["subsampling"])
    try:
      return imagecodecs.jpeg8_encode(
        np.ascontiguousarray(frame), arguments["quality"],
        subsampling=subsampling, optimize=self.options["optimize"],
      )  # fmt: skip
    except (ValueError, RuntimeError) as error:
      height, width = frame.shape[:2]
      raise CodecError(f"{self.name}: cannot code a picture of {width}x{height} pixels: {error}") from error

  def _open(self, file: bytes) -> _Jpeg | Image.Image:
    size = _three_components(file) if file.endswith(b"\xff\xd9") else None
    return super()._open(file) if size is None else _Jpeg(file, *size)

  def _pixels(self, picture: _Jpeg | Image.Image) -> np.ndarray:
    if isinstance(picture, Image.Image):
      return super()._pixels(picture)
    try:
      return importlib.import_module("imagecodecs").jpeg8_decode(picture.file, outcolorspace="RGB")
    except (ValueError, RuntimeError, MemoryError) as error:
      raise CodecError(f"{self.name}: damaged or cut short: {error}") from error


def _three_components(file: bytes) -> tuple[int, int] | None:
  """(height, width) from the frame header of a JPEG file of three components of 8 bits; None for any other file."""
  at = 2 if file[:2] == b"\xff\xd8" else len(file)
  while at + 10 <= len(file) and file[at] == 0xFF:
    marker, length, precision, height, width, n_components = struct.unpack_from(">xBHBHHB", file, at)
    if marker in (0xC0, 0xC1, 0xC2):
      return (height, width) if (precision, n_components) == (8, 3) else None
    at += 2 + length
  return None
