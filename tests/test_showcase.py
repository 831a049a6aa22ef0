"""A picture that cannot be read, in a study that leaves such pictures out, and in one that does not."""

import re

import numpy as np
import pytest
from PIL import Image
from test_study import tiny_config

from robust_compress import specs, study
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


def test_a_plan_estimates_by_the_pictures_that_can_be_read(tmp_path):
  assert "disk         about 0 MB" in opened(tmp_path, points=("jpeg@5",)).plan()


def test_a_plan_without_readable_pictures_says_so(tmp_path):
  one = opened(tmp_path, points=("jpeg@5",))
  for path in (tmp_path / "pictures" / "class").iterdir():
    path.write_bytes(b"nothing")
  assert re.search(r"disk         \? \(.*png: unreadable or truncated", one.plan())
