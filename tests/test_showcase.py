"""Which pictures are shown and what models find in them; and one that cannot be read, left out or an error."""

import re

import numpy as np
import pytest
from PIL import Image
from test_dense_study import dense_config
from test_study import tiny_config

from robust_compress import protocols, showcase, specs, study
from robust_compress.data import pipeline
from robust_compress.report import answers
from robust_compress.report.examples import load_examples
from robust_compress.types import DataError


def opened(tmp_path, **changes):
  """A study of six pictures, of which the first, which is always among the examples, is no picture."""
  folder = tmp_path / "pictures" / "class"
  folder.mkdir(parents=True)
  for i in range(6):
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
  (folder / "0.png").write_bytes(b"nothing")
  data = "folders(path=pictures,input=asis):all"
  same = {"data_dir": str(tmp_path), "test_data": data, "train_data": data, "protocols": ("shifted",)}
  return study.Study(tiny_config(**same, **changes), tmp_path / "work")


@pytest.mark.parametrize("point", ["jpeg@5", "webp@3bpp"])
def test_an_unreadable_picture_is_no_example_and_no_sample_of_a_rate(tmp_path, point):
  one = opened(tmp_path, points=(point,), on_bad="skip", n_examples=2)
  one.compress()
  [example] = load_examples(one.workdir / "examples", one.cells[0].data)
  assert example["id"] == "class/5.png"
  assert one.bench.pictures.levels.coded_as(one.cells[0].test).level > 1


@pytest.mark.parametrize("point", ["jpeg@5", "webp@3bpp"])
def test_it_is_an_error_unless_pictures_are_left_out(tmp_path, point):
  with pytest.raises(DataError, match=r"0\.png"):
    opened(tmp_path, points=(point,)).compress()


def test_examples_are_the_coded_pictures_and_follow_the_points(tmp_path):
  data = {"test_data": "scenes(size=32,n=6,input=asis):test", "protocols": ("shifted",), "n_examples": 2}

  def shown(*points):
    one = study.Study(tiny_config(points=points, **data), tmp_path)
    one.compress()
    first, last = load_examples(tmp_path / "examples", one.cells[0].data)
    assert (first["id"], last["id"]) == tuple(one.bench.pictures.source(one.cells[0].data).id(i) for i in (0, 5))
    for example, index in ((first, 0), (last, 5)):
      for decoded in example["decoded"]:
        coded = one.bench.pictures.source(one.cells[0].data, specs.parse_point(decoded["point"]))
        assert decoded["n_bytes"] == len(coded.blob(index))
        np.testing.assert_array_equal(Image.open(decoded["file"]), coded.picture(index).clip[0])
    return [decoded["point"] for decoded in last["decoded"]]

  assert shown("jpeg@5") == ["jpeg@5"]
  assert shown("jpeg@5", "webp@20", "jpeg@0.01bpp") == ["jpeg@5", "webp@20"]  # the last is out of reach
  assert shown("webp@20") == ["webp@20"]


def test_of_a_clip_the_frame_is_shown_that_a_model_is_fed(tmp_path):
  data = "scenes(size=32,n=3,length=4,frames=2,input=asis):test"
  one = study.Study(tiny_config(test_data=data, protocols=("shifted",), points=("h264@30",), n_examples=1), tmp_path)
  one.compress()
  [shown] = load_examples(tmp_path / "examples", one.cells[0].data)
  [decoded] = shown["decoded"]
  for file, point in ((shown["original"], protocols.NONE), (decoded["file"], one.cells[0].test)):
    clip = one.bench.pictures.source(one.cells[0].data, point).picture(0).clip
    np.testing.assert_array_equal(Image.open(file), clip[2])


# ------------------------------------------------------------------------------------- what models find


def dense(tmp_path, task):
  """(bench, {role: one of its cells}, the batches of its test pictures); no network is opened."""
  one = study.Study(dense_config(task), tmp_path)
  cells = {protocols.role(cell): cell for cell in reversed(one.cells)}
  data, model = one.cells[0].data, one.bench.models[one.cells[0].model]
  source = one.bench.labelled(model, data)
  return one.bench, cells, list(pipeline.eval_batches(source, model.input, specs.parse_data(data).view, 4))


def found_by(bench, predict, cell, batches):
  """(what a watched function says, {position of a shown picture: its answer})."""
  watched = showcase.watched(bench, predict, cell)
  said = [watched(batch) for batch in batches]
  source = bench.pictures.source(cell.data)
  kept = {i: answers.load_answer(bench.workdir / "answers", cell, source.id(i)) for i in range(len(source))}
  return said, {i: answer for i, answer in kept.items() if answer is not None}


def predicted_boxes(batch):
  """Two detections, the second of which is none, in each of more rows than there are."""
  n = len(batch["id"]) + 2
  boxes = np.tile(np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32), (n, 1, 1))
  return {"boxes": boxes, "scores": np.tile(np.float32([0.7, 0]), (n, 1)), "labels": np.tile(np.int32([3, -1]), (n, 1))}


@pytest.mark.parametrize("role", ["A", "B", "C", "relative"])
def test_what_is_found_in_shown_pictures_is_kept(tmp_path, role):
  bench, cells, batches = dense(tmp_path, "detection")
  said, kept = found_by(bench, predicted_boxes, cells[role], batches)
  assert sum(len(one["boxes"]) for one in said) == 8 + 2 * 2  # as they were
  assert sorted(kept) == [0, 5]
  for i, answer in kept.items():
    np.testing.assert_array_equal(answer.found["boxes"], [[1, 2, 3, 4]])
    assert (answer.found["labels"].tolist(), answer.found["scores"].tolist()) == ([3], [np.float32(0.7)])
    target = bench.pictures.source(cells[role].data).target(i)
    there = target["box_labels"] >= 0
    np.testing.assert_array_equal(answer.truth["boxes"], target["boxes"][there])
    np.testing.assert_array_equal(answer.truth["labels"], target["box_labels"][there])
    assert len(answer.truth["kinds"]) == there.sum() > 0
  names = answers.load_classes(tmp_path / "answers", cells[role].model, cells[role].data)
  assert tuple(names) == bench.pictures.source(cells[role].data).classes


def test_masks_are_kept_without_what_is_beyond_the_picture(tmp_path):
  bench, cells, batches = dense(tmp_path, "segmentation")

  def predict(batch):
    n = len(batch["id"])
    return {"segmentation": np.full((n, 96, 128), 7, np.uint8), "size": np.tile(np.int32([64, 64]), (n, 1))}

  _, kept = found_by(bench, predict, cells["B"], batches)
  assert sorted(kept) == [0, 5]
  for i, answer in kept.items():
    assert (answer.found["segmentation"] == 7).all()
    assert answer.found["segmentation"].shape == (64, 64)
    target = bench.pictures.source(cells["B"].data).target(i)
    np.testing.assert_array_equal(answer.truth["segmentation"], target["segmentation"])


def test_nothing_is_kept_of_other_weights_other_predictions_and_other_tasks(tmp_path):
  bench, cells, batches = dense(tmp_path, "detection")
  assert found_by(bench, predicted_boxes, cells["control"], batches)[1] == {}
  assert found_by(bench, lambda batch: {"depth": np.zeros(len(batch["id"]))}, cells["B"], batches)[1] == {}
  unlabelled = [{name: value for name, value in batch.items() if "box" not in name} for batch in batches]
  assert found_by(bench, predicted_boxes, cells["B"], unlabelled)[1][5].truth == {}
  other = study.Study(tiny_config(), tmp_path / "other")
  assert showcase.watched(other.bench, predicted_boxes, other.cells[0]) is predicted_boxes
  assert not (tmp_path / "other" / "answers").exists()


# ------------------------------------------------------------------------------- pictures that cannot be read


def test_a_plan_estimates_by_the_pictures_that_can_be_read(tmp_path):
  assert "disk         about 0 MB" in opened(tmp_path, points=("jpeg@5",)).plan()


def test_a_plan_without_readable_pictures_says_so(tmp_path):
  one = opened(tmp_path, points=("jpeg@5",))
  for path in (tmp_path / "pictures" / "class").iterdir():
    path.write_bytes(b"nothing")
  assert re.search(r"disk         \? \(.*png: unreadable or truncated", one.plan())
