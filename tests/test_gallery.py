"""Example pictures with what models find in them, from answers that are invented."""

import re

import numpy as np
import pytest

from robust_compress import protocols
from robust_compress.protocols import Grid
from robust_compress.report import answers, examples, gallery, page, report
from robust_compress.report.answers import Answer
from robust_compress.report.curves import panels
from robust_compress.specs import parse_point
from robust_compress.types import NONE, DataError, Recipe, Row, Weights

DATA, CLASSES = "scenes(input=asis,truth=boxes):test", ["background", "<disc>", "star"]
POINTS = (parse_point("jpeg@5"), parse_point("webp@1"))
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)


def cells(task="detection", **changes):
  fields = {"task": task, "model": "mine", "base": Weights("file:0"), "test_data": DATA, "train_data": DATA}
  fields |= {"points": POINTS, "finetune_points": POINTS[:1], "recipe": Recipe(steps=1).canonical()}
  return protocols.plan(Grid(**fields | changes), ("baseline", "shifted", "finetuned"))


def row(cell):
  return Row(cell, 4, {"AP": 0.5}, {}, 10, 100, None if cell.test == NONE else 0.8, None, {})


def boxes(*scores):
  n = len(scores)
  found = {"boxes": np.tile(np.array([8, 8, 40, 40], np.float32), (n, 1)), "labels": np.ones(n, np.int32)}
  truth = {"boxes": found["boxes"][:1], "labels": np.array([2]), "kinds": np.array([0], np.uint8)}
  return Answer(found | {"scores": np.array(scores, np.float32)}, truth)


def mask(right):
  """Of which so many rows are right; the last row does not count."""
  truth = np.ones((64, 80), np.uint8)
  truth[-1] = 255
  return Answer({"segmentation": np.where(np.arange(64)[:, None] < right, truth, np.uint8(2))}, {"segmentation": truth})


@pytest.fixture
def folder(tmp_path):
  """With two example pictures, coded at two points."""
  decoded = [examples.DecodedExample(point, PICTURE // 2, 1234) for point in POINTS]
  shown = [examples.Example(f"picture {i}", PICTURE, 99, None, decoded) for i in range(2)]
  examples.save_examples(tmp_path / "examples", DATA, shown)
  answers.save_classes(tmp_path / "answers", "mine", DATA, CLASSES)
  return tmp_path


def written(folder, planned, answer, score=0.3):
  """The section, of the answers of these cells on both pictures."""
  for cell in planned:
    for i in range(2):
      answers.save_answer(folder / "answers", cell, f"picture {i}", answer(cell))
  return gallery.section(panels(map(row, planned)), folder / "examples", gallery.Kept(folder / "answers", score))


def captions(html):
  return [re.sub("<[^>]+>", "|", text).strip("|") for text in re.findall("<figcaption>(.*?)</figcaption>", html)]


def test_every_picture_has_the_truth_and_what_was_found_before_and_after(folder):
  section = written(folder, cells(), lambda cell: boxes(0.9, 0.31, 0.1) if cell.test == NONE else boxes(0.2))
  one = captions(section)[:5]
  assert captions(section) == one * 2
  assert one[:2] == ["original|the truth||99 bytes", "original|as trained||2 boxes"]
  assert [text.split("||")[0] for text in one[2:]] == [
    "JPEG, quality 5|as trained",
    "JPEG, quality 5|finetuned on it",
    "WebP, quality 1|as trained",
  ]
  assert all("1\u202f234 bytes, " in text and text.endswith("dB||no box") for text in one[2:])
  assert "score of at least 30 %" in section
  assert section.count('class="group"') == 6  # B and C of a point stand side by side


def test_masks_come_with_a_key_and_a_share(folder):
  section = written(folder, cells("segmentation"), lambda cell: mask(63 if cell.test == NONE else 21))
  assert captions(section)[1] == "original|as trained||100 % of pixels right"
  assert captions(section)[2].endswith("||33 % of pixels right")
  key = re.search('<p class="key">(.*?)</p>', section).group(1)
  assert re.sub("<[^>]+>", "|", key).strip("|") == "&lt;disc&gt;||||star"  # largest first, and what is text stays text
  assert "score" not in section


def test_without_a_truth_and_with_part_of_the_answers(folder):
  found = {"segmentation": np.zeros((32, 40), np.uint8)}  # of a model's input, where nobody said how large the view is
  section = written(folder, cells("segmentation")[1:2], lambda cell: Answer(found, {}))
  assert [text.split("||")[0] for text in captions(section)] == ["JPEG, quality 5|as trained"] * 2
  assert "key" not in section  # background alone
  assert "of pixels right" not in section


def test_without_answers_pictures_are_shown_as_they_are(folder):
  section = written(folder, [], None)
  assert section is None  # nothing planned
  found = panels([], cells())
  for kept in (None, gallery.Kept(folder / "answers", 0.3), gallery.Kept(folder / "nowhere", 0.3)):
    section = gallery.section(found, folder / "examples", kept)
    assert "at true pixels" in section
    assert len(captions(section)) == 6
  assert gallery.section(found, folder / "nowhere", None) is None


def test_answers_of_other_weights_are_not_shown(folder):
  written(folder, cells(), lambda cell: boxes(0.9))
  others = panels(map(row, cells(base=Weights("file:1"))))
  assert "at true pixels" in gallery.section(others, folder / "examples", gallery.Kept(folder / "answers", 0.3))


def test_pictures_end_with_the_budget(folder, monkeypatch):
  monkeypatch.setattr(page, "PICTURE_BUDGET", 10)
  section = written(folder, cells(), lambda cell: boxes(0.9))
  assert len(captions(section)) == 5
  assert "1 more are beside the coded pictures" in section


def test_the_whole_page_has_them(folder):
  planned = cells()
  written(folder, planned, lambda cell: boxes(0.9))
  rows = [row(cell) for cell in planned]
  path = report(rows, folder, examples=folder / "examples", answers=folder / "answers", score=0.95)
  assert "score of at least 95 %" in path.read_text()
  assert captions(path.read_text()).count("original|as trained||no box") == 2
  again = report(rows, folder / "again", examples=folder / "examples", answers=folder / "answers", score=0.95)
  assert path.read_bytes() == again.read_bytes()


# --------------------------------------------------------------------------------------------- answers


def test_answers_round_trip(tmp_path):
  a, b = cells()[:2]
  for answer in (boxes(0.5, 0.4), boxes(), mask(3), Answer(boxes(0.1).found, {})):
    answers.save_answer(tmp_path, a, "../id", answer)
    back = answers.load_answer(tmp_path, a, "../id")
    for given, got in zip(answer, back, strict=True):
      assert given.keys() == got.keys()
      for name in given:
        np.testing.assert_array_equal(got[name], given[name])
        assert got[name].dtype == given[name].dtype
  assert answers.load_answer(tmp_path, b, "../id") is None
  assert answers.load_answer(tmp_path, a, "other") is None
  [file] = tmp_path.rglob("*.npz")
  file.write_bytes(file.read_bytes()[:-9])
  with pytest.raises(DataError, match=r"is damaged.*delete it"):
    answers.load_answer(tmp_path, a, "../id")


def test_classes_are_kept_once_and_follow_the_data(tmp_path):
  assert answers.load_classes(tmp_path, "mine", DATA) == []
  answers.save_classes(tmp_path, "mine", DATA, ("", "Čeština"))
  [file] = tmp_path.rglob("classes.json")
  before = file.stat().st_mtime_ns
  answers.save_classes(tmp_path, "mine", DATA, ["", "Čeština"])
  assert file.stat().st_mtime_ns == before
  names = answers.load_classes(tmp_path, "mine", DATA)
  assert [answers.class_name(names, label) for label in (0, 1, 2, -1)] == ["class 0", "Čeština", "class 2", "class -1"]
  answers.save_classes(tmp_path, "mine", DATA, ["other"])
  assert answers.load_classes(tmp_path, "mine", DATA) == ["other"]
  file.write_text("7")
  with pytest.raises(DataError, match="no list of classes"):
    answers.load_classes(tmp_path, "mine", DATA)


def test_what_somebody_calls_things_stays_text(folder):
  decoded = [examples.DecodedExample(POINTS[0], PICTURE, 5)]
  examples.save_examples(folder / "examples", DATA, [examples.Example("picture 0", PICTURE, None, None, decoded)])
  section = written(folder, cells(model="<b>mine", points=POINTS[:1]), lambda cell: boxes(0.9))
  assert "<b>" not in section
  assert "size of this view unknown" in section
