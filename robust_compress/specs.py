"""The written form of the nouns: 'name(k=v)@level' to objects and back, and their canonical hashes.

    'webp(method=6)@0.1bpp'                              ◀─▶ Point
    'csv(path=pictures,resize=256,crop=224):all[:100]'   ◀─▶ Data
    Cell, Weights, Recipe                                ──▶ canonical JSON ──▶ 16 hex digits of SHA-256

`format_x(parse_x(text))` is the canonical text: options sorted by name, numbers in shortest form.
Values are literals only: integers, floats, True, False, None, sizes (480x640), bare words, "quoted strings".
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robust_compress.types import Cell, Data, Options, Point, Recipe, Row, SpecError, View, Weights

_WORD = r"[A-Za-z_./~][\w./~+-]*"
_CALL = re.compile(r"(?P<name>[\w./:+-]+?)(?:\((?P<options>.*)\))?")
_OPTION = re.compile(r'\s*(?P<key>\w+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^,"]*?)\s*(?:,|$)')
_POINT = re.compile(r"(?P<call>[^@(]+(?:\(.*\))?)(?:@(?P<number>[^@()]+?)(?P<bpp>bpp)?)?")
_DATA = re.compile(r"(?P<call>.+):(?P<split>[\w+-]+)(?:\[(?P<start>\d*):(?P<stop>\d*)\])?")
_VIEW_KEYS = tuple(f.name for f in dataclasses.fields(View))


def nearest(kind: str, name: str, known: Iterable[str], hint: str = "") -> SpecError:
  """The error for a name that does not exist, with the one that was probably meant.

  >>> str(nearest('codec', 'jpg', ['jpeg', 'webp'], 'robust-compress list codecs'))
  "no codec 'jpg'; did you mean 'jpeg'? (robust-compress list codecs)"
  """
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  meant = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
  return SpecError(f"no {kind} {name!r}; {meant}" + (f" ({hint})" if hint else ""))


def check_options(name: str, options: Iterable[str], call: Callable[..., Any], others: Iterable[str] = ()) -> None:
  """Raises SpecError for an option that `call` has no parameter for, with the nearest of those and of `others`."""
  parameters = inspect.signature(call).parameters
  if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
    return
  for key in options:
    if key not in parameters:
      raise nearest(f"option of {name}", key, [*parameters, *others])


def import_attribute(kind: str, name: str) -> Any:
  """What 'package.module:attribute' names. Raises SpecError saying which half of it does not exist."""
  module_name, _, attribute = name.partition(":")
  try:
    module = importlib.import_module(module_name)
  except ImportError as error:
    raise SpecError(f"{kind} {name!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?") from error
  if not hasattr(module, attribute):
    public = [key for key in vars(module) if not key.startswith("_")]
    raise nearest(f"attribute of {module_name}", attribute, public, f"{kind} {name}")
  return getattr(module, attribute)


# ------------------------------------------------------------------------------------------ literal values


def parse_value(text: str) -> Any:
  """A literal: parse_value('480x640') == (480, 640)."""
  for pattern, convert in (
    (r"True|False|None", {"True": True, "False": False, "None": None}.__getitem__),
    (r"[+-]?\d+", int),
    (r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?", float),
    (r"\d+x\d+", lambda s: tuple(int(n) for n in s.split("x"))),
    (_WORD, str),
  ):
    if re.fullmatch(pattern, text):
      return convert(text)
  if text.startswith('"'):
    try:
      return json.loads(text)
    except json.JSONDecodeError:
      pass
  raise SpecError(f'{text!r} is no value; expected a number, True, False, None, 480x640, a word, or a "quoted string"')


def format_value(value: Any) -> str:
  if isinstance(value, tuple):
    return "x".join(str(n) for n in value)
  if isinstance(value, float):
    return format_number(value)
  if isinstance(value, str):
    bare = re.fullmatch(_WORD, value) and value not in ("True", "False", "None")
    return value if bare else json.dumps(value)
  return str(value)


def format_number(value: float) -> str:
  """Shortest form that reads back equal: 10.0 is '10', 0.1 is '0.1'."""
  return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


# --------------------------------------------------------------------------------------------- name(k=v)


def parse_call(text: str) -> tuple[str, Options]:
  """'name(k=v,…)' to ('name', sorted options)."""
  match = _CALL.fullmatch(text.strip())
  if not match:
    raise SpecError(f"{text!r} is not of the form name(key=value,…)")
  return match["name"], _parse_options(match["options"] or "", text)


def _parse_options(text: str, whole: str) -> Options:
  options: dict[str, Any] = {}
  position = 0
  while position < len(text):
    match = _OPTION.match(text, position)
    if not match:
      raise SpecError(f"{whole!r}: expected key=value at {text[position:]!r}")
    if match["key"] in options:
      raise SpecError(f"{whole!r}: option {match['key']!r} is given twice")
    options[match["key"]] = parse_value(match["value"])
    position = match.end()
  return tuple(sorted(options.items()))


def format_call(name: str, options: Options | Mapping[str, Any] = ()) -> str:
  pairs = sorted(dict(options).items())
  return name + (f"({','.join(f'{key}={format_value(value)}' for key, value in pairs)})" if pairs else "")


# ----------------------------------------------------------------------------------------------- points


def parse_point(text: str | Point) -> Point:
  """'jpeg@10', 'webp(method=6)@0.1bpp' or 'none'. Whether codec and level exist is the codec table's to say."""
  if isinstance(text, Point):
    return text
  match = _POINT.fullmatch(text.strip())
  if not match:
    raise SpecError(f"{text!r} is no point; expected codec@level, codec(option=value)@level, codec@0.1bpp or 'none'")
  codec, options = parse_call(match["call"])
  if (codec == "none") != (match["number"] is None):
    raise SpecError(f"{text!r}: every codec but 'none' takes a level, as in 'jpeg@10' or 'jpeg@0.5bpp'")
  if codec == "none":
    return Point("none", options)
  number = parse_value(match["number"])
  if isinstance(number, bool) or not isinstance(number, (int, float)):
    raise SpecError(f"{text!r}: level {match['number']!r} is not a number")
  return Point(codec, options, **{"bpp" if match["bpp"] else "level": float(number)})


def format_point(point: Point) -> str:
  call = format_call(point.codec, point.options)
  if point.bpp is not None:
    return f"{call}@{format_number(point.bpp)}bpp"
  return call if point.level is None else f"{call}@{format_number(point.level)}"


# ------------------------------------------------------------------------------------------------- data


def parse_data(text: str | Data) -> Data:
  """'name(option=value,view=…):split[start:stop]'.

  The view's keys are resize, crop, interpolation and input, and of clips length, stride and frames.
  """
  if isinstance(text, Data):
    return text
  match = _DATA.fullmatch(text.strip())
  if not match:
    raise SpecError(f"{text!r} is no data; expected name(option=value,…):split or …:split[start:stop]")
  name, options = parse_call(match["call"])
  view = View(**{key: value for key, value in options if key in _VIEW_KEYS})
  if view.input not in ("model", "asis"):
    raise SpecError(f"{text!r}: input={view.input!r}; expected input=model or input=asis")
  if view.interpolation not in ("nearest", "bilinear", "bicubic", "lanczos"):
    raise SpecError(f"{text!r}: interpolation={view.interpolation!r}; expected nearest, bilinear, bicubic or lanczos")
  _check_frames(view, text)
  rest = tuple((key, value) for key, value in options if key not in _VIEW_KEYS)
  start, stop = (int(match[key]) if match[key] else None for key in ("start", "stop"))
  return Data(name, rest, view, match["split"], start, stop)


def _check_frames(view: View, text: str) -> None:
  """Raises SpecError for a view whose keys of clips say nothing that can be."""
  for key in ("length", "stride"):
    value = getattr(view, key)
    if (key, value) != ("length", None) and not (type(value) is int and value >= 1):
      raise SpecError(f"{text!r}: {key}={value!r}; expected a number of frames, at least 1")
  if type(view.frames) is int:
    if view.frames < 0 or (view.length is not None and view.frames >= view.length):
      last = "" if view.length is None else f" to {view.length - 1}"
      raise SpecError(f"{text!r}: frames={view.frames}; the frames of the clip count from 0{last}")
  elif view.frames not in ("all", "pairs"):
    raise SpecError(f"{text!r}: frames={view.frames!r}; expected all, pairs, or the number of one, counted from 0")
  if view.frames == "pairs" and view.length == 1:
    raise SpecError(f"{text!r}: frames=pairs needs at least two frames; the clip has length=1")


def format_data(data: Data) -> str:
  view = {key: getattr(data.view, key) for key in _VIEW_KEYS}
  view = {key: value for key, value in view.items() if value is not None}
  if data.view.resize is None:
    del view["interpolation"]  # nothing is resized, so it names nothing
  for key in ("input", "stride", "frames"):
    if view[key] == getattr(View, key):
      del view[key]
  text = f"{format_call(data.name, {**dict(data.options), **view})}:{data.split}"
  if data.start is None and data.stop is None:
    return text
  start, stop = ("" if n is None else str(n) for n in (data.start, data.stop))
  return f"{text}[{start}:{stop}]"


# ------------------------------------------------------------------------------------------ recipes, JSON


def format_recipe(recipe: Recipe) -> str:
  """Canonical JSON of the fields that differ from their defaults; equal recipes have equal texts."""
  default = Recipe()
  changed = {f.name: _typed(f.name, getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}
  return _canonical({key: value for key, value in changed.items() if value != getattr(default, key)})


def parse_recipe(fields: str | Mapping[str, Any]) -> Recipe:
  """From canonical JSON or a mapping; an unknown field is an error with the nearest name."""
  values = json.loads(fields) if isinstance(fields, str) else dict(fields)
  known = [f.name for f in dataclasses.fields(Recipe)]
  for key in values:
    if key not in known:
      raise nearest("recipe field", key, known)
  typed: dict[str, Any] = {key: _typed(key, value) for key, value in values.items()}
  return Recipe(**typed)


def _typed(field: str, value: Any) -> Any:
  """A recipe's value as its field's type has it: 3 epochs are 3.0, as those of a written recipe."""
  hint = typing.get_type_hints(Recipe)[field]
  options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  if value is None and types.NoneType in options:
    return None
  if typing.get_origin(options[0]) is tuple and isinstance(value, (tuple, list)):
    return tuple(_number_of(field, float, one) for one in value)
  return _number_of(field, options[0], value) if options[0] in (int, float) else value


def _number_of(field: str, kind: type, value: Any) -> Any:
  if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
    wanted = "a whole number" if kind is int else "a number"
    raise SpecError(f"recipe field {field!r} is {value!r}; expected {wanted}")
  return kind(value)


def weights_to_json(weights: Weights) -> dict[str, Any]:
  fields: dict[str, Any] = {"source": weights.source, "data": weights.data, "recipe": weights.recipe}
  fields |= {"points": [str(point) for point in weights.points], "seed": weights.seed}
  fields["init"] = None if weights.init is None else weights_to_json(weights.init)
  return fields


def weights_from_json(fields: Mapping[str, Any]) -> Weights:
  init = None if fields["init"] is None else weights_from_json(fields["init"])
  points = tuple(parse_point(text) for text in fields["points"])
  return Weights(fields["source"], init, fields["data"], points, fields["recipe"], fields["seed"])


def cell_to_json(cell: Cell) -> dict[str, Any]:
  fields = {key: getattr(cell, key) for key in ("task", "model", "data", "target")}
  return {**fields, "test": str(cell.test), "weights": weights_to_json(cell.weights)}


def cell_from_json(fields: Mapping[str, Any]) -> Cell:
  weights, test = weights_from_json(fields["weights"]), parse_point(fields["test"])
  return Cell(fields["task"], fields["model"], weights, fields["data"], test, fields["target"])


def row_to_json(row: Row) -> dict[str, Any]:
  fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
  return {**fields, "cell": cell_to_json(row.cell)}


def row_from_json(fields: Mapping[str, Any]) -> Row:
  """The row again. A null among metrics and intervals is a number that was not finite: JSON has no NaN."""
  metrics = {name: _number(value) for name, value in fields["metrics"].items()}
  intervals = {name: (_number(low), _number(high)) for name, (low, high) in fields["intervals"].items()}
  return Row(**{**fields, "cell": cell_from_json(fields["cell"]), "metrics": metrics, "intervals": intervals})


def _number(value: float | None) -> float:
  return float("nan") if value is None else value


def _canonical(value: Any) -> str:
  return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(value: Any) -> str:
  """16 hex digits of the SHA-256 of a JSON value in canonical form."""
  return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]


def weights_key(weights: Weights) -> str:
  return key_of(weights_to_json(weights))


def cell_key(cell: Cell) -> str:
  return key_of(cell_to_json(cell))
