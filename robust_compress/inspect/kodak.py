"""Rate–distortion curves that others published for the 24 Kodak pictures, and how those pictures are known.

The numbers are CompressAI's: means over the pictures of each one's bpp, PSNR and MS-SSIM in RGB; `kodak.json` names
repository, commit and file of every curve. Of learned codecs those of 8-bit pictures are taken, as a receiver has
them; their rates leave out headers. Levels of classical codecs are inferred from CompressAI's benchmark script.

Measured here, WebP is the published curve to its fourth digit. JPEG has its rates within 0.3 % and comes out up to
0.13 dB better: the published one was decoded by an older library.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from robust_compress.specs import key_of, nearest


class Published(NamedTuple):
  """One curve as it was published, by rising rate."""

  name: str  # in `--published` and `--anchor`
  title: str
  codec: str  # the one of ours of this format, '' where there is none
  source: str  # file or paper
  levels: tuple[float, ...]  # as the codec counts; () where they are not known
  bpp: tuple[float, ...]
  psnr: tuple[float, ...]
  ms_ssim: tuple[float, ...]  # () where it was not published


@functools.cache
def _table() -> dict[str, Any]:
  return json.loads((importlib.resources.files(__package__) / "kodak.json").read_text())


def origin() -> str:
  """Repository and commit, for the foot of a figure."""
  return f"{_table()['repository']} at {_table()['commit'][:12]}"


def curve(name: str) -> Published:
  """Raises SpecError for a name that is not in the table; names the nearest."""
  curves = _table()["curves"]
  if name not in curves:
    raise nearest("published curve", name, curves)
  fields = curves[name]
  columns = (tuple(fields.get(column, ())) for column in ("levels", "bpp", "psnr", "ms_ssim"))
  return Published(name, fields["title"], fields.get("codec", ""), fields["source"], *columns)


def names() -> tuple[str, ...]:
  return tuple(_table()["curves"])


def is_kodak(contents: Iterable[str]) -> bool:
  """Whether pictures with these hashes (`measurements.content_of`) are the 24, whatever their names."""
  return key_of(sorted(set(contents))) == _table()["pictures"]


def chosen(text: str, codecs: Iterable[str], on_kodak: bool) -> list[Published]:
  """The curves that `--published` names.

  'auto' are those of the formats measured and VVC's, where the pictures are Kodak's, and none elsewhere; 'all', 'none'
  or names with commas between them are just that.
  """
  if text == "none" or (text == "auto" and not on_kodak):
    return []
  if text == "auto":
    mine = set(codecs)
    return [one for one in map(curve, names()) if one.codec in mine or one.name == "vtm"]
  return [curve(name.strip()) for name in (names() if text == "all" else text.split(","))]
