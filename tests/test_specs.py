"""format and parse are inverse, canonical text is canonical, and what does not exist says what does."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress import specs
from robust_compress.types import NONE, Cell, Data, Point, Recipe, Row, SpecError, View, Weights

words = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
sizes = st.tuples(st.integers(1, 4096), st.integers(1, 4096))
values = numbers | st.booleans() | st.none() | words | texts | sizes
options = st.dictionaries(words, values, max_size=3)
levels = st.integers(-100, 100).map(float) | st.floats(0.01, 1e6)


def as_options(mapping):
  return tuple(sorted(mapping.items()))


points = st.one_of(
  st.just(NONE),
  st.builds(lambda name, o, level: Point(name, as_options(o), level=level), words.map("c".__add__), options, levels),
  st.builds(
    lambda name, o, bpp: Point(name, as_options(o), bpp=bpp), words.map("c".__add__), options, st.floats(1e-3, 24)
  ),
)
views = st.builds(
  lambda resize, crop, interpolation, input: View(resize, crop, interpolation if resize else "bicubic", input),
  st.none() | st.integers(1, 999) | sizes,
  st.none() | st.integers(1, 999) | sizes,
  st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
  st.sampled_from(["model", "asis"]),
)
data = st.builds(
  lambda name, o, view, split, start, stop: Data(name, as_options(o), view, split, start, stop),
  words,
  st.dictionaries(words.map("o_".__add__), values, max_size=3),
  views,
  words,
  st.none() | st.integers(0, 10**6),
  st.none() | st.integers(0, 10**6),
)
weights = st.recursive(
  st.builds(Weights, words, st.none(), st.just(""), st.just(()), st.just(""), st.integers(0, 9)),
  lambda inner: st.builds(
    Weights, st.just(""), inner, data.map(str), st.lists(points, max_size=3).map(tuple), texts, st.integers(0, 9)
  ),
  max_leaves=3,
)
cells = st.builds(Cell, words, words, weights, data.map(str), points, st.sampled_from(["labels", "self(score=0.5)"]))


@given(points)
def test_points_round_trip(point):
  assert specs.parse_point(specs.format_point(point)) == point


@given(data)
def test_data_round_trips(value):
  text = specs.format_data(value)
  assert specs.parse_data(text) == value
  assert specs.format_data(specs.parse_data(text)) == text


@given(values)
def test_values_round_trip_with_their_type(value):
  back = specs.parse_value(specs.format_value(value))
  assert back == value
  if not isinstance(value, float):  # 10.0 is written 10: levels are compared as numbers
    assert type(back) is type(value)


@given(cells)
def test_cells_round_trip_and_equal_cells_have_equal_keys(cell):
  back = specs.cell_from_json(specs.cell_to_json(cell))
  assert back == cell
  assert specs.cell_key(back) == specs.cell_key(cell)


@given(cells, st.floats(allow_infinity=False, allow_nan=False), st.none() | st.integers(0, 10**12))
def test_rows_round_trip(cell, score, n_bytes):
  row = Row(cell, 7, {"top1": score}, {"top1": (score, score)}, n_bytes, 49, None, None, {"codec": "x"}, {"git": {}})
  assert specs.row_from_json(specs.row_to_json(row)) == row


def test_null_metrics_are_nan():
  fields = specs.row_to_json(Row(Cell("t", "m", Weights("w"), "d:all", NONE), 1, {}, {}, None, 1, None, None, {}))
  row = specs.row_from_json({**fields, "metrics": {"miou": None}, "intervals": {"miou": [None, 1.0]}})
  assert math.isnan(row.metrics["miou"])
  assert math.isnan(row.intervals["miou"][0])


def test_options_are_sorted_and_numbers_short():
  assert str(specs.parse_point("webp( z=1.0 , method=6)@30.0")) == "webp(method=6,z=1)@30"
  assert specs.parse_point("bpg@0.1bpp") == Point("bpg", bpp=0.1)
  assert specs.parse_point("j2k@-5").level == -5
  assert specs.parse_point('x(note=")@3")@0.5bpp') == Point("x", (("note", ")@3"),), bpp=0.5)
  assert str(specs.parse_data("csv(resize=256, crop=224):all[:100]")) == (
    "csv(crop=224,interpolation=bicubic,resize=256):all[:100]"
  )


@pytest.mark.parametrize(
  "text", ["jpeg", "none@3", "jpeg@", "jpeg@x", "jpeg@True", "", "jpeg(q=1@5", "jpeg(q=1,q=2)@5", "a@1@2"]
)
def test_what_is_no_point_is_refused(text):
  with pytest.raises(SpecError):
    specs.parse_point(text)


@pytest.mark.parametrize(
  "text", ["imagenet", "d(input=no):all", "d(interpolation=area,resize=3):all", "d:all[1]", "d(=3):all"]
)
def test_what_is_no_data_is_refused(text):
  with pytest.raises(SpecError):
    specs.parse_data(text)


def test_errors_name_the_nearest():
  assert str(specs.nearest("codec", "jpg", ["jpeg", "webp"])) == "no codec 'jpg'; did you mean 'jpeg'?"
  assert "there are: a, b" in str(specs.nearest("task", "qqqq", ["b", "a"]))
  with pytest.raises(SpecError, match="learning_rate"):
    specs.parse_recipe({"learning_rat": 0.1})


def test_recipes_are_written_by_what_they_change():
  assert Recipe().canonical() == "{}"
  recipe = Recipe(epochs=2, optimizer="adamw", crop_scale=None, milestones=(0.5,))
  assert specs.parse_recipe(recipe.canonical()) == recipe
  assert recipe.canonical() == '{"crop_scale":null,"epochs":2.0,"milestones":[0.5],"optimizer":"adamw"}'


def test_equal_recipes_are_written_equally():
  for one, other in (({"epochs": 3}, {"epochs": 3.0}), ({"steps": 3.0, "warmup": 0}, {"steps": 3})):
    assert Recipe(**one).canonical() == Recipe(**other).canonical() == specs.parse_recipe(one).canonical()
  assert Recipe(crop_ratio=(1, 2)).canonical() == '{"crop_ratio":[1.0,2.0]}'
  assert Recipe(steps=3.0).canonical() == '{"steps":3}'
  assert type(specs.parse_recipe({"epochs": 3, "steps": None}).epochs) is float


@pytest.mark.parametrize(
  ("fields", "text"),
  [
    ({"steps": 2.5}, "'steps' is 2.5; expected a whole number"),
    ({"learning_rate": "0.1"}, "'learning_rate' is '0.1'; expected a number"),
    ({"crop_ratio": [True, 1]}, "'crop_ratio' is True; expected a number"),
    ({"batch_size": None}, "'batch_size' is None; expected a whole number"),
  ],
)
def test_a_recipe_value_of_another_type(fields, text):
  with pytest.raises(SpecError, match=text):
    specs.parse_recipe(fields)


def test_keys_change_with_every_field_and_never_between_versions():
  cell = Cell(
    "classification", "resnet18.tv_in1k", Weights("torchvision:x"), "scenes:test", specs.parse_point("jpeg@10")
  )
  others = [
    dataclasses.replace(cell, **change)
    for change in ({"target": "self"}, {"test": NONE}, {"model": "vit"}, {"weights": Weights("torchvision:x", seed=1)})
  ]
  assert len({specs.cell_key(c) for c in [cell, *others]}) == 5
  assert specs.cell_key(cell) == "2459c816c84ee90b"
