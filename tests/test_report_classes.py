"""Losses by class and by size, from invented records of which every number is known."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from robust_compress import protocols, statistics
from robust_compress.protocols import Grid
from robust_compress.report import answers, classes, report
from robust_compress.report.classes import ByClass
from robust_compress.report.curves import panels
from robust_compress.report.paired import Paired
from robust_compress.specs import parse_point
from robust_compress.store import Store
from robust_compress.types import NONE, Recipe, Row, Weights

DATA = "scenes(input=asis,truth=boxes):test"
POINTS = tuple(map(parse_point, ("jpeg@5", "jpeg@20", "webp@1")))
IDS = [f"picture {i}" for i in range(40)]
N_CLASSES = 30
NAMES = [f"class of {label}" for label in range(N_CLASSES)]


def planned(points=POINTS, finetuned=POINTS[:1], seeds=(0,)):
  fields = {"task": "detection", "model": "mine", "base": Weights("file:0"), "test_data": DATA, "train_data": DATA}
  grid = Grid(**fields, points=points, finetune_points=finetuned, recipe=Recipe(steps=1).canonical(), seeds=seeds)
  return protocols.plan(grid, ("baseline", "shifted", "finetuned", "relative"))


def level(cell):
  """How many of the 40 pictures class 0 is found in; a class more costs a picture more under compression."""
  return {"A": 36, "C": 30 + 2 * cell.weights.seed}.get(protocols.role(cell), 20)


def records(cell):
  lost = np.arange(N_CLASSES) % 7 * (cell.test != NONE)  # by class
  return {"found": (np.arange(len(IDS))[:, None] < level(cell) - lost).astype(np.uint8)}


def per_class(records, weights=None):
  shares = np.average(records["found"], axis=0, weights=weights)
  return {label: {"AP": float(share), "AP50": 1.0} for label, share in enumerate(shares)}


def compute(records, weights=None):
  found = per_class(records, weights)
  return {"AP": float(np.mean([one["AP"] for one in found.values()])), "APs": found[0]["AP"], "APm": found[6]["AP"]}


def measured(store, cell, ids=IDS):
  drawn = statistics.replicates(compute, records(cell), ids, n_replicates=100)
  intervals = {name: statistics.interval(values) for name, values in drawn.items()}
  bpp = None if cell.test == NONE else cell.test.level / 10
  metrics = {**compute(records(cell)), "APl": float("nan")}
  row = Row(cell, len(IDS), metrics, intervals, 10, 100, bpp, bpp, {})
  store.put_records(cell, ids, records(cell), drawn)
  store.put(row)
  return row


@pytest.fixture
def store(tmp_path):
  return Store(tmp_path / "work")


def opened(store, cells):
  """(panel, Paired, ByClass) of these cells."""
  answers.save_classes(store.workdir / "answers", "mine", DATA, NAMES)
  [panel] = panels([measured(store, cell) for cell in cells])
  return panel, Paired(store), ByClass(store, per_class, store.workdir / "answers")


def test_classes_stand_by_their_loss(store):
  panel, paired, by_class = opened(store, planned())
  first, second, third = classes.settings(panel, paired)
  assert [str(setting.b.test) for setting in (first, second, third)] == ["jpeg@5", "jpeg@20", "webp@1"]
  assert (first.c is None, second.c is None) == (False, True)
  metric, lines = classes.lines(panel, first, by_class)
  assert (metric.name, len(lines)) == ("AP", N_CLASSES)
  assert lines[0].name == "class of 6"
  assert (lines[0].a, lines[0].b, lines[0].c) == pytest.approx((0.9, 0.35, 0.6))
  assert [line.lost for line in lines] == sorted(line.lost for line in lines)
  assert classes.headline(metric, first, lines) == "JPEG, quality 5, 0.50 bpp: class of 6 loses most, −55.0 points"
  table = classes.class_table(metric, lines, has_c=True)
  assert len(table.body) == classes.SHOWN
  assert table.body[0] == ("class of 6", "90.0", "35.0", "−55.0", "60.0", "+25.0")
  assert len(classes.class_table(metric, lines, has_c=False).body[0]) == 4


def test_classes_that_only_one_side_knows_come_last(store):
  panel, paired, _ = opened(store, planned())

  def some(records):
    found = per_class(records)
    if records["found"].sum() < 900:  # of compressed pictures
      del found[3]
      found[4]["AP"] = float("nan")
    return found

  metric, lines = classes.lines(panel, classes.settings(panel, paired)[0], ByClass(store, some))
  assert {line.name for line in lines[-2:]} == {"class 3", "class 4"}  # names were not kept
  assert classes.class_table(metric, lines[-1:], has_c=False).body[0][2:] == ("–", "–")


def test_without_a_loss_nothing_is_said_to_lose(store):
  panel, paired, by_class = opened(store, planned())
  setting = classes.settings(panel, paired)[0]
  metric, lines = classes.lines(panel, setting._replace(b=setting.a), by_class)
  assert classes.headline(metric, setting, lines).endswith(": no class loses")


def test_seeds_are_averaged(store):
  panel, paired, by_class = opened(store, planned(seeds=(0, 1)))
  _, lines = classes.lines(panel, classes.settings(panel, paired)[0], by_class)
  assert lines[0].c == pytest.approx(((30 - 6) / 40 + (32 - 6) / 40) / 2)


def test_many_settings_are_two_a_codec(store):
  points = [f"jpeg@{q}" for q in (5, 10, 20, 30, 40)] + [f"webp@{q}" for q in (1, 10, 20)]
  points = tuple(map(parse_point, points))
  panel, paired, _ = opened(store, planned(points))
  assert len(classes.settings(panel, paired)) == classes.MANY
  panel, paired, _ = opened(store, planned((*points, parse_point("avif@9"))))
  shown = [str(setting.b.test) for setting in classes.settings(panel, paired)]
  assert shown == ["jpeg@5", "jpeg@20", "webp@1", "webp@10", "avif@9"]


def test_other_pictures_are_not_compared(store):
  ids = {"B": [*IDS[1:], "other"]}
  [panel] = panels([measured(store, cell, ids.get(protocols.role(cell), IDS)) for cell in planned()])
  assert classes.settings(panel, Paired(store)) == []
  assert classes.size_table(panel, Paired(store)) is None


def test_sizes_that_no_object_has_are_left_out(store):
  panel, paired, _ = opened(store, planned())
  table = classes.size_table(panel, paired)
  assert [line[3] for line in table.body] == ["small", "medium"] * 3
  small, medium = table.body[:2]
  assert small[:7] == ("JPEG", "quality 5", "0.50", "small", "90.0", "50.0", "−40.0")
  assert medium[6] == "−55.0"
  low, high = (float(bound.replace("−", "-")) for bound in small[7].strip("[]").split(", "))
  assert low < -40 < high < 0
  assert small[8:10] == ("75.0", "+25.0")
  assert table.body[2][8:] == ("–", "–", "")
  bare = dataclasses.replace(panel, metrics=panel.metrics[:1])
  assert classes.size_table(bare, paired) is None


def test_the_page_and_its_csv(store, tmp_path):
  rows = [measured(store, cell) for cell in planned(seeds=(0, 1))]
  answers.save_classes(store.workdir / "answers", "mine", DATA, NAMES)
  path = report(rows, tmp_path, results=store, answers=store.workdir / "answers", per_class=per_class)
  text = path.read_text()
  for part in ("Loss by class", "class of 6 loses most", "Loss by size of objects", 'href="classes.csv"'):
    assert part in text
  lines = list(csv.DictReader(io.StringIO((tmp_path / "classes.csv").read_text())))
  assert len(lines) == N_CLASSES * (1 + 3 + 2)  # A, B at three points, C of two seeds; not against itself
  [one] = [line for line in lines if (line["scenario"], line["seed"], line["label"]) == ("C", "1", "6")]
  assert (one["class"], one["test"], float(one["AP"]), float(one["AP50"])) == ("class of 6", "jpeg@5", 0.65, 1.0)
  assert (
    text
    == report(
      rows, tmp_path / "again", results=store, answers=store.workdir / "answers", per_class=per_class
    ).read_text()
  )


def test_rows_alone_and_tasks_without_classes_have_no_such_section(store, tmp_path):
  rows = [measured(store, cell) for cell in planned()]
  for given in ({"per_class": per_class}, {"results": store}, {"results": Store(tmp_path), "per_class": per_class}):
    text = report(rows, tmp_path, **given).read_text()
    assert "Loss by class" not in text
    assert "Loss by size" in text  # which stands in the rows
    assert not (tmp_path / "classes.csv").exists()
