"""Which codec a file is of, by its first bytes, and what its header says, without decoding it.

    bytes ──identify──▶ 'bpg'        ──describe──▶ {'format': 'BPG', 'size': '768x512', 'chroma': '4:4:4', …}

Nothing here but Python reads the bytes, so that a file made to harm a decoder can be looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from robust_compress.codecs import bpg_container, frames, video_stream
from robust_compress.codecs.colour import SPACES
from robust_compress.codecs.learned import container, weights
from robust_compress.codecs.optional import jxl_size
from robust_compress.inspect import jpeg_header
from robust_compress.specs import format_number
from robust_compress.types import CodecError

Facts = dict[str, str]
_STARTS = {
  b"\xff\xd8\xff": "jpeg",
  b"\xff\x4f\xff\x51": "jpeg2000",
  b"\0\0\0\x0cjP  ": "jpeg2000",
  b"\xff\x0a": "jxl",
  b"\0\0\0\x0cJXL ": "jxl",
  bpg_container.MAGIC: "bpg",
  **{bytes([tag]): codec for codec, tag in video_stream.TAGS.items()},
}
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic"}  # of ISO media files
_OTHERS = {b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"P6": "PPM"}
_CHROMA = ("grey", "4:2:0", "4:2:2", "4:4:4")  # by HEVC's chroma_format_idc


def identify(blob: bytes) -> str:
  """Name of the codec that reads these bytes; of a clip of files, that of the files.

  Raises CodecError for bytes of no codec here; says what they are, where that shows.
  """
  file = frames.unpack(blob)[0]
  head = file[:16]
  if head[:1] == bytes([container.TAG]):
    return container.read(file).header.model
  if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
    return "webp"
  if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
    return _BRANDS[head[8:12]]
  for start, codec in _STARTS.items():
    if head.startswith(start):
      return codec
  other = next((name for start, name in _OTHERS.items() if head.startswith(start)), "")
  what = f"a {other} file, which no codec here writes" if other else f"{len(blob)} bytes that begin like no format here"
  raise CodecError(f"{what}; name its codec by --codec")


def describe(blob: bytes, codec: str) -> Facts:
  """What the header of `codec`'s bytes says, in the order in which one would read it.

  Raises CodecError for a header that is damaged or of another format.
  """
  files = frames.unpack(blob, codec)
  if len(files) > 1:
    return {"frames": str(len(files)), **describe(files[0], codec), "clip": "a file a frame; this is the first"}
  try:
    return _DESCRIBE[codec](blob) if codec in _DESCRIBE else {"format": codec}
  except (IndexError, ValueError) as error:  # what reading past the end raises
    raise CodecError(f"{codec}: the header is damaged or cut short ({error})") from error


# ------------------------------------------------------------------------------------------------ formats


def _jpeg(blob: bytes) -> Facts:
  header = jpeg_header.parse(blob)
  facts = {"format": f"JPEG, {header.process}", "size": f"{header.width}x{header.height}"}
  facts |= {"bits": str(header.depth), "chroma": header.subsampling}
  for plane, quality in zip(("luma", "chroma"), jpeg_header.qualities(header)):
    off = f"the nearest; steps differ by {quality.error:.0f} %" if quality.error else "IJG table"
    facts[f"{plane} quality"] = f"{quality.level} ({off})"
  return facts | {"metadata": ", ".join(header.metadata) or "none"}


def _webp(blob: bytes) -> Facts:
  chunks, at = {}, 12
  while at + 8 <= len(blob):
    kind, length = blob[at : at + 4], int.from_bytes(blob[at + 4 : at + 8], "little")
    chunks.setdefault(kind, blob[at + 8 : at + 8 + min(length, 16)])
    at += 8 + length + length % 2
  if b"VP8L" in chunks:
    bits = int.from_bytes(chunks[b"VP8L"][1:5], "little")
    size, coding = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), "lossless"
  else:
    head = chunks.get(b"VP8 ", b"")
    if head[3:6] != b"\x9d\x01\x2a":
      raise ValueError("no picture in it; an animation is none")
    size, coding = tuple(int.from_bytes(head[start : start + 2], "little") & 0x3FFF for start in (6, 8)), "lossy"
  names = " ".join(kind.decode("ascii", "replace").strip() for kind in chunks)
  chroma = "4:2:0" if coding == "lossy" else "4:4:4"
  return {"format": "WebP", "size": f"{size[0]}x{size[1]}", "coding": coding, "chroma": chroma, "chunks": names}


def _avif(blob: bytes) -> Facts:
  box = _box(blob, b"av1C", 4)
  depth = 8 + 2 * (box[2] >> 6 & 1) + 2 * (box[2] >> 5 & 1)
  chroma = "grey" if box[2] & 16 else {0: "4:4:4", 2: "4:2:2", 3: "4:2:0"}.get(box[2] >> 2 & 3, "unknown")
  return {"format": "AVIF", **_spatial(blob), "bits": str(depth), "chroma": chroma, "AV1 profile": str(box[1] >> 5)}


def _heic(blob: bytes) -> Facts:
  box = _box(blob, b"hvcC", 19)
  return {"format": "HEIC", **_spatial(blob), "bits": str(8 + (box[17] & 7)), "chroma": _CHROMA[box[16] & 3]}


def _spatial(blob: bytes) -> Facts:
  box = _box(blob, b"ispe", 12)
  width, height = (int.from_bytes(box[start : start + 4]) for start in (4, 8))
  return {"size": f"{width}x{height}"}


def _box(blob: bytes, kind: bytes, length: int) -> bytes:
  """The first bytes of a property box of an ISO media file. Raises ValueError where there is none."""
  start = blob.index(kind) + 4
  if start + length > len(blob):
    raise ValueError(f"box {kind.decode()} is cut short")
  return blob[start : start + length]


def _jpeg2000(blob: bytes) -> Facts:
  start = blob.index(b"\xff\x4f\xff\x51") + 4
  siz, cod = blob[start : start + int.from_bytes(blob[start : start + 2])], blob.index(b"\xff\x52", start)
  x1, y1, x0, y0 = (int.from_bytes(siz[at : at + 4]) for at in (4, 8, 12, 16))
  n = int.from_bytes(siz[36:38])
  steps = {(siz[39 + 3 * i], siz[40 + 3 * i]) for i in range(n)}
  facts = {"format": "JPEG 2000", "size": f"{x1 - x0}x{y1 - y0}", "bits": str((siz[38] & 127) + 1)}
  facts |= {"components": str(n), "chroma": "4:4:4" if steps == {(1, 1)} else "subsampled"}
  wavelet = "9/7, lossy" if blob[cod + 13] == 0 else "5/3, reversible"
  return facts | {"wavelet": wavelet, "layers": str(int.from_bytes(blob[cod + 6 : cod + 8]))}


def _jxl(blob: bytes) -> Facts:
  height, width = jxl_size(blob)
  return {"format": "JPEG XL", "size": f"{width}x{height}", "container": "none" if blob[:2] == b"\xff\x0a" else "boxes"}


def _bpg(blob: bytes) -> Facts:
  contents = bpg_container.read(blob)
  layout = contents.layout
  chroma = "grey" if layout.chroma == 400 else ":".join(str(layout.chroma))
  place = {420: ", beside even columns" if layout.cosited else ", between samples"}.get(layout.chroma, "")
  facts = {"format": "BPG", "size": f"{contents.width}x{contents.height}", "bits": str(layout.depth)}
  facts |= {"chroma": chroma + place, "colours": SPACES[layout.space], "range": "limited" if layout.limited else "full"}
  coded = "x".join(map(str, reversed(contents.coded_size)))
  return facts | {"HEVC": f"{coded} coded, {len(contents.units)} units of {sum(map(len, contents.units))} bytes"}


def _video(codec: str, blob: bytes) -> Facts:
  header, stream = video_stream.unpack(blob, codec)
  facts = {"format": codec, "size": f"{header.width}x{header.height}", "frames": str(header.n_frames)}
  facts |= {"frames a second": str(header.rate), "header": f"{len(blob) - len(stream)} bytes, checksum right"}
  return facts | {"packets": str(len(video_stream.split(codec, stream)))}


def _learned(blob: bytes) -> Facts:
  contents = container.read(blob)
  header, n_bytes = contents.header, [len(string) for string in contents.strings]
  at_hand = weights.shipped(header.model)
  whose = "those of this package" if at_hand and header.weights in at_hand.name else "others than this package's"
  facts = {"format": f"learned, {header.model}", "size": f"{header.width}x{header.height}"}
  facts |= {"level": format_number(header.level), "weights": f"{header.weights}, {whose}", "coder": header.coder}
  strings = " + ".join(map(str, n_bytes))
  return facts | {"strings": f"{strings} bytes", "header": f"{len(blob) - sum(n_bytes)} bytes, checksum right"}


_DESCRIBE: dict[str, Callable[[bytes], Facts]] = {
  "jpeg": _jpeg,
  "webp": _webp,
  "avif": _avif,
  "heic": _heic,
  "jpeg2000": _jpeg2000,
  "jxl": _jxl,
  "bpg": _bpg,
  **{codec: functools.partial(_video, codec) for codec in video_stream.TAGS},
  **dict.fromkeys(container.MODELS, _learned),
}
