"""A picture that cannot be read, in a study that leaves such pictures out, and in one that does not."""

import numpy as np
import pytest
from PIL import Image
from test_study import tiny_config

from robust_compress import study
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
  assert one.bench.level(one.cells[0].test) > 1


@pytest.mark.parametrize("point", ["jpeg@5", "webp@3bpp"])
def test_it_is_an_error_unless_pictures_are_left_out(tmp_path, point):
  with pytest.raises(DataError, match=r"0\.png"):
    opened(tmp_path, points=(point,)).compress()
