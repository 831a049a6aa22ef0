"""The table of codecs: what exists, and the way from a name or a Point to an object.

    'webp(method=6)@30' ──canonical_point──▶ Point ──load_codec──▶ Codec

A codec is one file here and one line below, or anything of the user's by 'package.module:attribute': a callable whose
keyword arguments are the options and whose result has the interface of `types.Codec`. 'none' is no codec: it is the
point of pictures that were never coded, and its rate is the source files' own. `per_image=True`, which gives each
picture its own level at a target rate, belongs to points: it is taken off here before a codec is made.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from robust_compress import specs
from robust_compress.codecs import bpg, optional, pillow, video
from robust_compress.codecs.learned.codec import LearnedCodec
from robust_compress.specs import nearest
from robust_compress.types import NONE, Codec, CodecError, LevelError, Options, Point, SpecError

_PER_IMAGE = "per_image"
_LEARNED = "quality 1-8 (cheng2020: 1-6); weights=FILE|FOLDER, metric=mse|ms-ssim, coder=constriction|tfc"
_learned = functools.partial(functools.partial, LearnedCodec)
CODECS: dict[str, tuple[Callable[..., Codec], str]] = {
  "jpeg": (pillow.jpeg, "quality 1-100; subsampling=420|444, optimize, progressive, backend=pillow|imagecodecs"),
  "webp": (pillow.webp, "quality 0-100; method=0..6"),
  "avif": (pillow.avif, "quality 0-100; speed=0..10, subsampling=420|444"),
  "jpeg2000": (pillow.jpeg2000, "PSNR in dB 20-50"),
  "bpg": (bpg.BpgCodec, "QP 51-0; chroma=420|444, depth=8|10, preset=superfast..placebo, backend=builtin|libbpg"),
  "jxl": (optional.jxl, "quality 0-99; effort=1..9; extra: jxl"),
  "heic": (optional.heic, "quality 0-99; chroma=420|444; extra: heic"),
  "h264": (video.h264, "QP 51-0, or CRF by mode=crf; chroma=444|420, preset, extra"),
  "hevc": (video.hevc, "QP 51-0, or CRF by mode=crf; chroma=420|444, preset, extra"),
  "av1": (video.av1, "QP 63-1, or CRF by mode=crf; preset=0..13, extra"),
  "vp9": (video.vp9, "QP 63-0, or CRF by mode=crf; chroma=420|444, speed=0..8, extra"),
  "bmshj2018-factorized": (_learned("bmshj2018-factorized"), _LEARNED),
  "bmshj2018-hyperprior": (_learned("bmshj2018-hyperprior"), _LEARNED),
  "mbt2018-mean": (_learned("mbt2018-mean"), _LEARNED),
  "mbt2018": (_learned("mbt2018"), _LEARNED),
  "cheng2020-anchor": (_learned("cheng2020-anchor"), _LEARNED),
  "cheng2020-attn": (_learned("cheng2020-attn"), _LEARNED),
  "cheng2020-gmm": (_learned("cheng2020-gmm"), "level 1-5; weights=FILE, coder=constriction|tfc"),
}


def load_codec(name_or_point: str | Point, **options: Any) -> Codec:
  """The codec of a name, of a name with options, or of a point (its level is not looked at).

  >>> load_codec('jpeg', subsampling=444).fingerprint() == load_codec('jpeg(subsampling=444)@10').fingerprint()
  True

  Raises:
    SpecError: an unknown codec, or an unknown option; names the nearest, or the options there are.
    CodecError: 'none'.
  """
  name, given = _name_and_options(name_or_point)
  if name == NONE.codec:
    raise CodecError("'none' is no codec: its pictures are never coded; read them from the source itself")
  factory, given = _factory(name), {**dict(given), **options}
  specs.check_options(name, given, factory)
  return factory(**given)


def canonical_point(point: str | Point) -> Point:
  """The one way of writing a point: options sorted, those equal to the defaults left out, the level checked.

  Raises SpecError for an unknown codec or option, LevelError for a level or a target rate that cannot be.
  """
  point = specs.parse_point(point)
  if point.codec == NONE.codec:
    if point != NONE:
      raise SpecError(f"'{point}': 'none' takes no options and no level")
    return NONE
  codec = load_codec(point)
  if (point.level is None) == (point.bpp is None):
    raise LevelError(f"{point}: expected a level or a target rate, as in {point.codec}@{codec.levels[0]:g}")
  _check_per_image(point)
  if point.level is not None:
    check_level(codec, point.level)
  elif not 0 < point.bpp < math.inf:
    raise LevelError(f"{point}: a target rate is a positive number of bits per pixel")
  defaults = {key: parameter.default for key, parameter in inspect.signature(_factory(point.codec)).parameters.items()}
  defaults[_PER_IMAGE] = False
  options = ((key, value) for key, value in point.options if value != defaults.get(key))
  told = (option for option in options if defaults.get(option[0], "") is not None or not _follows(point, *option))
  return Point(point.codec, tuple(sorted(told)), point.level, point.bpp)


def _follows(point: Point, key: str, value: Any) -> bool:
  """Whether an option without a default of its own is what the other options make it, as chroma=444 in h264@30."""
  others = tuple(option for option in point.options if option[0] != key)
  return getattr(load_codec(Point(point.codec, others)), "options", {}).get(key) == value


def _check_per_image(point: Point) -> None:
  wanted = dict(point.options).get(_PER_IMAGE, False)
  if not isinstance(wanted, bool):
    raise SpecError(f"{point}: {_PER_IMAGE}={wanted}; expected True or False")
  if wanted and point.bpp is None:
    example = f"{point.codec}({_PER_IMAGE}=True)@0.5bpp"
    raise SpecError(f"{point}: a level of each picture's own needs a rate to meet, as in {example}")


def check_level(codec: Codec, level: float) -> None:
  """Raises LevelError for a level that the codec does not take: its own rule, or else the ends of its ladder."""
  if isinstance(level, bool) or not isinstance(level, numbers.Real):
    raise LevelError(f"{codec.name}: level {level!r} is not a number")
  if hasattr(codec, "check_level"):
    codec.check_level(level)
  elif not min(codec.levels) <= level <= max(codec.levels):
    low, high = (specs.format_number(x) for x in (codec.levels[0], codec.levels[-1]))
    raise LevelError(f"{codec.name}@{specs.format_number(level)}: levels run from {low} to {high}")


def ladder(codec: Codec) -> tuple[Sequence[float], bool]:
  """Where the level for a rate is sought: (levels from low rate to high, whether all between them are levels too).

  Most codecs count in whole steps, up or down; of those, every step is there.
  """
  low, high = codec.levels[0], codec.levels[-1]
  try:
    check_level(codec, int(min(low, high)) + 0.5)
    return codec.levels, True
  except LevelError:
    step = 1 if low < high else -1
    return range(int(low), int(high) + step, step), False


def _name_and_options(text: str | Point) -> tuple[str, Options]:
  """Of the codec alone: without what an option says of the point."""
  if isinstance(text, str):
    text = specs.parse_point(text) if "@" in text else Point(*specs.parse_call(text))
  return text.codec, tuple((key, value) for key, value in text.options if key != _PER_IMAGE)


def _factory(name: str) -> Callable[..., Codec]:
  if ":" in name:
    return specs.import_attribute("codec", name)
  if name not in CODECS:
    raise nearest("codec", name, [*CODECS, NONE.codec], "robust-compress list codecs")
  return CODECS[name][0]
