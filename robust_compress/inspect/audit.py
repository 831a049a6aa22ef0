"""`robust-compress audit`: how compressed the originals of a data set already are.

    Source ──read──▶ bytes of a file ──header──▶ format, size, JPEG quality, subsampling ──┐
                          └──decode, for some──▶ luma ──recompression──▶ earlier quality ──┴─▶ Original, one a file

An original of JPEG quality 75 bounds every curve that is drawn from it: what its own compression took is not there to
be lost any more, and a codec at a higher rate is asked to code its artefacts.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from robust_compress import provenance
from robust_compress.ahead import ahead
from robust_compress.data import image_ops
from robust_compress.data.sources import ViewedSource
from robust_compress.inspect import jpeg_header, recompression
from robust_compress.types import CodecError, DataError, Source

SAMPLE, TRACED = 2000, 200  # pictures whose files are read, and of these whose pixels are
LOSSLESS = ("PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP lossless")


class Original(NamedTuple):
  """What one file is. `error` is set, and nothing else, where it cannot be read."""

  id: str
  format: str = ""  # 'JPEG', 'PNG', 'WEBP lossless', …
  n_bytes: int = 0
  width: int = 0
  height: int = 0
  process: str = ""  # of a JPEG: 'baseline', 'progressive'
  subsampling: str = ""  # of a JPEG
  quality: int | None = None  # of a JPEG: the IJG's, of its luma table, or the nearest
  table_error: float = 0.0  # percent by which steps differ from that quality's table
  traced: bool = False  # whether its pixels were looked at, and are enough to tell
  earlier_quality: int | None = None  # of a JPEG compression before that of the file; None where none shows
  gain: float | None = None  # `recompression.Trace.gain`
  error: str = ""

  @property
  def bpp(self) -> float:
    return 8 * self.n_bytes / (self.width * self.height)


def audit(
  source: Source, *, sample: int = SAMPLE, traced: int = TRACED, n_workers: int | None = None, progress: bool = True
) -> list[Original]:
  """Looks at the files of a source, in its order.

  Args:
    source: of files: its `read(index)` gives the bytes of one.
    sample: pictures to look at, drawn by a fixed seed; 0 for all.
    traced: of these, how many are decoded to look for an earlier compression; 0 for none.
    n_workers: threads; by default as many as this process has cores.
    progress: whether to show a bar.

  Raises:
    DataError: pictures that are not files.
  """
  files = files_of(source)
  if files is None:
    raise DataError("these examples are no picture files (scenes are rendered, clips are video): nothing to audit")
  order = np.random.default_rng(0).permutation(len(files))[: sample or len(files)]
  to_trace = set(order[:traced].tolist())
  parts = [(index, index in to_trace) for index in sorted(order.tolist())]
  with (
    ThreadPoolExecutor(n_workers or provenance.n_cores(), "audit") as pool,
    closing(ahead(pool, lambda index, deep: _original(files, index, deep), parts, 64)) as results,
  ):
    return list(tqdm(results, "audit", len(parts), unit=" pictures", disable=not progress))


def files_of(source: Source) -> Any | None:
  """What lies under a view, where it can `read` files."""
  files = source.source if isinstance(source, ViewedSource) else source
  return files if hasattr(files, "read") else None


def _original(files: Any, index: int, deep: bool) -> Original:
  name = files.id(index)
  try:
    data = files.read(index)
    found, table = _from_header(name, data)
    if not deep or found.format not in ("JPEG", *LOSSLESS):
      return found
    trace = recompression.trace(luma_of(data, name), table)
    if trace is None:
      return found
    return found._replace(traced=True, earlier_quality=trace.quality, gain=trace.gain)
  except (DataError, CodecError) as error:
    return Original(name, error=str(error))


def _from_header(name: str, data: bytes) -> tuple[Original, np.ndarray | None]:
  """What a file says of itself, and the luma steps of a JPEG."""
  if data[:3] == b"\xff\xd8\xff":
    header = jpeg_header.parse(data)
    found = Original(name, "JPEG", len(data), header.width, header.height, header.process, header.subsampling)
    table = header.table_of(0)
    if table is None:
      return found, None
    quality = jpeg_header.quality_of(table)
    return found._replace(quality=quality.level, table_error=quality.error), table
  try:
    with Image.open(io.BytesIO(data)) as picture:
      form = f"{picture.format}{' lossless' if picture.format == 'WEBP' and b'VP8L' in data[:64] else ''}"
      return Original(name, form, len(data), picture.width, picture.height), None
  except Exception as error:  # a damaged file makes Pillow raise nearly anything
    raise DataError(f"{name}: not a picture that Pillow reads ({error})") from error


def luma_of(data: bytes, name: str) -> np.ndarray:
  """float[h w] of a picture file; of JPEG the plane as it was coded, without the way through RGB."""
  if data[:3] == b"\xff\xd8\xff":
    try:
      with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        if picture.mode in ("RGB", "L"):
          picture.draft("L", picture.size)
          return np.asarray(picture.convert("L"), np.float64)
    except Exception as error:
      raise DataError(f"{name}: unreadable or truncated picture of {len(data)} bytes ({error})") from error
  return image_ops.decode_picture(data, name)[0] @ np.array([0.299, 0.587, 0.114])
