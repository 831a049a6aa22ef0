"""The seven protocols: which weights, which points, and that equal questions are equal cells."""

import dataclasses
import inspect

import pytest

from robust_compress import protocols, specs
from robust_compress.protocols import PROTOCOLS, Grid, plan, role
from robust_compress.types import NONE, Recipe, SpecError, Weights

POINTS = tuple(specs.parse_point(text) for text in ("jpeg@5", "jpeg@10", "webp@5", "bpg@0.1bpp"))
BASE = Weights("torchvision:resnet18")
GRID = Grid(
  "classification",
  "resnet18.tv_in1k",
  BASE,
  "folders(path=pictures):val",
  "folders(path=pictures):train",
  POINTS,
  finetune_points=POINTS[1:3],
  recipe=Recipe(epochs=2).canonical(),
  seeds=(0, 1),
)


def cells(name, grid=GRID):
  return list(PROTOCOLS[name][0](grid))


@pytest.mark.parametrize(
  ("name", "n", "roles"),
  [
    ("baseline", 1, {"A"}),
    ("shifted", 4, {"B"}),
    ("finetuned", 2 * 2, {"C"}),
    ("control", 2 * 5, {"control"}),
    ("relative", 4, {"relative"}),
    ("matrix", 2 * 2 * 4, {"C", "matrix"}),
    ("mixed", 2 * 4, {"mixed"}),
  ],
)
def test_counts_and_roles(name, n, roles):
  found = cells(name)
  assert len(set(found)) == len(found) == n
  assert {role(cell) for cell in found} == {role(cell, BASE) for cell in found} == roles


def test_every_protocol_is_in_the_table_and_documented():
  public = {name for name, f in vars(protocols).items() if inspect.isgeneratorfunction(f) and not name.startswith("_")}
  assert public == set(PROTOCOLS)
  assert all(doc for _, doc in PROTOCOLS.values())


def test_finetuned_weights_name_all_that_makes_them():
  cell = cells("finetuned")[0]
  assert cell.test == POINTS[1]
  assert cell.weights == Weights("", BASE, GRID.train_data, (POINTS[1],), GRID.recipe, 0)
  assert cells("mixed")[0].weights.points == POINTS[1:3]
  assert cells("control")[0].weights.points == (NONE,)
  assert cells("control")[0].test == NONE
  assert cells("relative")[0].target == "self"
  assert {cell.test for cell in cells("relative")} == set(POINTS)


def test_protocols_that_ask_for_the_same_number_share_the_cell():
  both = plan(GRID, ["finetuned", "matrix"])
  assert both == list(dict.fromkeys([*cells("finetuned"), *cells("matrix")]))
  assert len(both) == len(cells("matrix"))
  one = dataclasses.replace(GRID, finetune_points=POINTS[:1])
  assert set(cells("finetuned", one)) <= set(cells("mixed", one))


def test_a_plan_is_unique_in_order_and_over_grids():
  every = plan([GRID, dataclasses.replace(GRID, model="vit")], list(PROTOCOLS))
  assert len({specs.cell_key(cell) for cell in every}) == len(every)
  assert role(every[0]) == "A"
  assert plan([GRID, GRID], ["shifted", "shifted"]) == cells("shifted")


def test_finetuning_defaults_to_every_point_and_the_original_is_implied():
  grid = Grid("t", "m", BASE, "d:val", "d:train", (NONE, *POINTS, POINTS[0]), recipe="{}")
  assert grid.points == grid.finetune_points == POINTS


def test_errors_name_the_remedy():
  with pytest.raises(SpecError, match="did you mean 'finetuned'"):
    plan(GRID, ["finetune"])
  with pytest.raises(SpecError, match="needs train_data"):
    plan(dataclasses.replace(GRID, train_data=""), ["baseline", "control"])
  with pytest.raises(SpecError, match="needs recipe"):
    plan(dataclasses.replace(GRID, recipe=""), ["mixed"])


def test_a_base_that_was_trained_here_is_still_a_base():
  trained = Weights("", Weights("random"), "scenes:train", (NONE,), '{"epochs":9}')
  grid = dataclasses.replace(GRID, base=trained)
  assert [role(cells(name, grid)[0]) for name in ("baseline", "shifted", "finetuned", "control")] == [
    "A",
    "B",
    "C",
    "control",
  ]


def test_weights_trained_from_random_ones_on_coded_pictures_are_no_base():
  trained = Weights("", Weights("random"), "scenes:train", (POINTS[0],), '{"epochs":9}')
  assert not protocols.is_base(trained)
  assert [role(GRID.cell(trained, point)) for point in (POINTS[0], POINTS[1])] == ["C", "matrix"]
  assert "finetuned on jpeg@5" in protocols.describe(GRID.cell(trained, NONE))


def test_control_weights_may_be_the_base():
  control = GRID.finetuned((NONE,), 0)
  grid = dataclasses.replace(GRID, base=control)
  found = plan(grid, ["baseline", "shifted", "finetuned"])
  assert [role(cell, control) for cell in found] == ["A", *"BBBB", *"CCCC"]
  assert set(plan(grid, ["baseline", "shifted"])) <= set(cells("control"))


def test_descriptions_tell_cells_apart():
  every = plan(GRID, list(PROTOCOLS))
  assert len({protocols.describe(cell) for cell in every}) == len(every)
  assert protocols.describe(cells("finetuned")[-1]) == (
    "resnet18.tv_in1k finetuned on webp@5 (seed 1), folders(path=pictures):val at webp@5"
  )
  assert protocols.describe(cells("relative")[0]).endswith("at jpeg@5, against self")
