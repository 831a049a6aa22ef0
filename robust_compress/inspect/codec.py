"""One file, as a person tries a codec: `robust-compress codec encode | decode | info`.

    PICTURE ──clip_files──▶ clip ──encode──▶ FILE ──decode──▶ clip' ──▶ bytes, bpp, PSNR, MS-SSIM, seconds
    FILE ──identify──▶ codec ──ForeignDecoder──▶ clip ──clip_files──▶ PICTURE
    FILE ──headers──▶ what its header says

A file that is decoded may come from anywhere, so it is decoded by a worker process with limits of time and memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from robust_compress import codecs, files, rate, specs
from robust_compress.foreign import ForeignDecoder, limits
from robust_compress.inspect import clip_files, headers, quality
from robust_compress.inspect.tables import aligned, number
from robust_compress.types import Clip, Codec, DataError, LevelError, Point, SpecError

Facts = dict[str, str]  # what is printed, a line each


def encode(picture: str | os.PathLike, file: str | os.PathLike, point: str) -> Facts:
  """Codes a picture, a video or a folder of frames into one file, and decodes it again to say how near it came.

  Args:
    picture: read by `clip_files.read_clip`.
    file: written whole or not at all, with nothing in it but the codec's blob.
    point: 'bpg@37', or at a rate, 'webp@0.5bpp': the level is then sought on this picture.

  Raises:
    SpecError, LevelError: a codec, option, level or rate that does not exist; a rate out of reach names what is not.
    DataError, CodecError: a picture that cannot be read or coded.
  """
  asked = codecs.canonical_point(point)
  if asked.codec == "none":
    raise SpecError("'none' codes nothing; name a codec with its level, as in bpg@37")
  codec, clip = codecs.load_codec(asked), clip_files.read_clip(picture)
  level = _level_at(codec, clip, asked) if asked.level is None else asked.level
  started = time.perf_counter()
  [coded] = codec.encode([clip], [level])
  encoded = time.perf_counter()
  [decoded] = codec.decode([coded.blob])
  done = time.perf_counter()
  files.write_atomic(file, coded.blob)
  options = tuple(option for option in asked.options if option[0] != "per_image")  # the level found is this picture's
  shown = specs.format_point(Point(asked.codec, options, level))
  return {
    "codec": f"{shown} ({codec.fingerprint()})",
    **_size(clip),
    **_rate(len(coded.blob), clip),
    "PSNR": f"{number(quality.psnr(clip, decoded), 2)} dB",
    "MS-SSIM": number(quality.ms_ssim(clip, decoded), 4),
    "encode": f"{encoded - started:.3f} s",
    "decode": f"{done - encoded:.3f} s",
  }


def decode(file: str | os.PathLike, picture: str | os.PathLike, codec: str = "") -> Facts:
  """Decodes a file in a worker, and writes what comes out without loss.

  Args:
    file: of any codec here; which one its first bytes tell, where `codec` does not.
    picture: written by `clip_files.write_clip`.
    codec: its name, with options where decoding depends on them.

  Raises CodecError for bytes that cannot be decoded, or not within the worker's limits.
  """
  clip_files.check_target(picture)
  blob = _read(file)
  name = codec or headers.identify(blob)
  with ForeignDecoder(**limits(name)) as decoder:
    started = time.perf_counter()
    clip = decoder.decode(name, blob)
    seconds = time.perf_counter() - started
  clip_files.write_clip(picture, clip)
  return {"codec": name, **_size(clip), **_rate(len(blob), clip), "decode": f"{seconds:.3f} s, worker's start included"}


def info(file: str | os.PathLike, codec: str = "") -> Facts:
  """What the header of a file says; nothing is decoded. Raises CodecError for a header that is damaged or unknown."""
  blob = _read(file)
  name = codec or headers.identify(blob)
  facts = {"bytes": f"{len(blob):,}", "codec": name, **headers.describe(blob, specs.parse_call(name)[0])}
  if "size" in facts:
    width, height = map(int, facts["size"].split("x"))
    n_pixels = width * height * int(facts.get("frames", "1"))
    facts["bpp"] = number(8 * len(blob) / n_pixels, 3) if n_pixels else "–"
  return facts


def text(facts: Mapping[str, str]) -> str:
  """A line a fact."""
  return aligned([[name, value] for name, value in facts.items()], n_left=2)


def _read(file: str | os.PathLike) -> bytes:
  try:
    return Path(file).read_bytes()
  except OSError as error:
    raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _level_at(codec: Codec, clip: Clip, point: Point) -> float:
  """The level whose rate on this clip is nearest to the one asked for."""
  n_pixels, (levels, continuous) = clip[..., 0].size, codecs.ladder(codec)

  def rate_at(level: float) -> float:
    return 8 * len(codec.encode([clip], [level])[0].blob) / n_pixels

  found = rate.search_level(rate_at, levels, point.bpp or 0, continuous=continuous)
  if not found.reachable:
    low, high = rate_at(levels[0]), rate_at(levels[-1])
    raise LevelError(f"{point}: out of reach; this picture takes from {low:.3f} to {high:.3f} bpp")
  return found.level


def _size(clip: Clip) -> Facts:
  n_frames, height, width, _ = clip.shape
  return {"size": f"{width}x{height}" + (f", {n_frames} frames" if n_frames > 1 else "")}


def _rate(n_bytes: int, clip: Clip) -> Facts:
  return {"bytes": f"{n_bytes:,}", "bpp": number(8 * n_bytes / clip[..., 0].size, 3)}
