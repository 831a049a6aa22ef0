"""Whole studies of detection and segmentation, small: the same cells, rows and loops as of classification."""

import json

import numpy as np
import pytest
from PIL import Image

from robust_compress import settings, study
from robust_compress.types import InputSpec, SpecError

NANO = {"detection": "nano_det.scenes", "segmentation": "nano_seg.scenes"}
TRUTH = {"detection": "boxes", "segmentation": "segmentation"}
METRIC = {"detection": "AP", "segmentation": "mIoU"}


def dense_config(task):
  config = settings.default_config()
  config.task, config.models = task, (NANO[task],)
  data = f"scenes(size=64,input=asis,truth={TRUTH[task]},objects=2"
  config.test_data, config.train_data = f"{data},n=6):test", f"{data},n=8):train"
  config.points, config.finetune_points = ("jpeg@5", "jpeg@95"), ("jpeg@5",)
  config.protocols = ("baseline", "shifted", "relative", "finetuned", "control")
  config.self_target = "self(score=0.2)" if task == "detection" else "self"
  config.recipe = settings.recipe_config(
    steps=2, batch_size=4, learning_rate=1e-3, jitter=(0.8, 1.25), colour=0.5, clip_norm=1.0
  )
  config.batch_size, config.n_examples = 4, 2
  config.lock()
  return config


@pytest.mark.parametrize("task", NANO)
def test_a_study_of_scenes(task, tmp_path):
  """All protocols, on two devices, with a last batch that is not full; what is done is not done again."""
  mine = study.Study(dense_config(task), tmp_path)
  mine.run()
  rows = {(row.cell.weights.points, str(row.cell.test), row.cell.target): row for row in mine.store.rows()}
  assert len(rows) == len(mine.cells) == 9  # A; B at two points; the same against itself; C; the control at three
  metric, relative = METRIC[task], dense_config(task).self_target
  assert all(row.n == 6 and 0 <= row.metrics[metric] <= 1 for row in rows.values())
  own = rows[(), "jpeg@95", relative].metrics[metric]
  assert own > rows[(), "jpeg@5", relative].metrics[metric]  # little is changed at quality 95
  low, high = rows[(), "none", "labels"].intervals[metric]
  assert low <= rows[(), "none", "labels"].metrics[metric] <= high
  assert not study.Study(dense_config(task), tmp_path).missing()
  assert len(list((tmp_path / "answers").rglob("*.npz"))) == 2 * 4  # in two pictures: A; B at two points; C
  assert all(text in mine.page.read_text() for text in ("finetuned on it", "the truth", "Loss by class"))


def test_a_clip_is_coded_and_its_labelled_frame_scored(tmp_path):
  """As Reich et al. (2024) measure segmentation under H.264."""
  picture = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 255, (8, 8, 3)), 8, 0), 8, 1).astype(np.uint8)
  for n in range(2):
    for frame in range(30):  # the twentieth of a snippet has the mask
      name = f"a_{n:06d}_{frame:06d}"
      folder = tmp_path / "clips" / "val" / "a"
      folder.mkdir(parents=True, exist_ok=True)
      Image.fromarray(picture).save(folder / f"{name}_leftImg8bit.png")
      if frame == 19:
        masks = tmp_path / "gtFine" / "val" / "a"
        masks.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64), 7, np.uint8)).save(masks / f"{name}_gtFine_labelIds.png")  # road
  config = dense_config("segmentation")
  with config.unlocked():
    config.models = ("nano_seg.random(n_classes=19)",)
    config.data_dir = str(tmp_path)
    config.test_data = config.train_data = (
      "frames(path=clips,naming=cityscapes,masks=gtFine,length=8,stride=3,frames=5,input=asis):val"
    )
    config.points, config.protocols = ("h264@30",), ("baseline", "shifted")
  mine = study.Study(config, tmp_path / "workdir")
  mine.run()
  by_point = {str(row.cell.test): row for row in mine.store.rows()}
  assert by_point["h264@30"].n_pixels == 2 * 8 * 64 * 64  # all frames are paid for
  assert by_point["h264@30"].n == 2
  assert 0 <= by_point["none"].metrics["global_accuracy"] <= 1
  with config.unlocked():  # a frame whose mask nobody has
    config.test_data = config.test_data.replace("frames=5", "frames=4")
  refused = study.Study(config, tmp_path / "refused")
  with pytest.raises(SpecError, match="frames=4 feeds frame 16"):
    refused.run()
  assert not (tmp_path / "refused" / "coded").exists()


def blind(image):
  """A detector that finds nothing, and that needs not be compiled."""
  n = len(image)
  return {"boxes": np.zeros((n, 1, 4)), "scores": np.zeros((n, 1)), "labels": np.full((n, 1), -1)}


blind.input, blind.task = InputSpec((32, 32), None), "detection"


def test_a_row_says_which_objects_it_was_measured_on(tmp_path):
  """Of the pictures that could be read, and under the view."""
  boxes = ([0, 0, 8, 8], [30, 30, 9, 9], [2, 30, 6, 6])  # in a crop of the middle 32 only the second
  content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ball"}]}
  (tmp_path / "zoo" / "val").mkdir(parents=True)
  for n, box in enumerate(boxes):
    content["images"].append({"id": n, "file_name": f"{n}.png", "height": 64, "width": 64})
    content["annotations"].append({"id": n, "image_id": n, "category_id": 1, "bbox": box})
    Image.new("RGB", (64, 64)).save(tmp_path / "zoo" / "val" / f"{n}.png")
  (tmp_path / "zoo" / "boxes.json").write_text(json.dumps(content))
  (tmp_path / "zoo" / "val" / "2.png").write_bytes(b"no picture")
  config = dense_config("detection")
  with config.unlocked():
    config.models, config.data_dir, config.on_bad = ("test_dense_study:blind",), str(tmp_path), "skip"
    config.test_data, config.train_data = "coco(path=zoo,file=boxes.json,images=val,crop=32,input=asis):all", ""
    config.points, config.protocols, config.recipe = (), ("baseline",), settings.recipe_config()
  mine = study.Study(config, tmp_path / "workdir")
  mine.run()
  [row] = mine.store.rows()
  counts = row.provenance["annotations"]
  assert (row.n, row.n_skipped, counts["pictures"]) == (2, 1, 2)
  assert (counts["objects"], counts["without_objects"], counts["boxes_outside_view"]) == (1, 1, 1)


@pytest.mark.parametrize(
  ("model", "expected"),
  [
    ("nano_det.random(n_classes=9)", "has 9 classes, and scenes.* needs 10; use .*n_classes=10"),
    ("fasterrcnn_resnet50_fpn.tv_coco(n_classes=10)", "needs 11, of which the first is the background"),
  ],
)
def test_data_of_more_classes_than_the_network_has_is_refused(tmp_path, model, expected):
  config = dense_config("detection")
  with config.unlocked():
    config.models = (model,)
  opened = study.Study(config, tmp_path).bench
  with pytest.raises(SpecError, match=expected):
    opened.labelled(next(iter(opened.models.values())), config.test_data)


def test_what_a_target_or_a_recipe_asks_for_in_vain_is_told_before_anything_runs(tmp_path):
  config = dense_config("segmentation")
  with config.unlocked():
    config.self_target = "self(score=0.5)"
  with pytest.raises(SpecError, match=r"option of 'self\(score=0\.5\)' for segmentation"):
    _ = study.Study(config, tmp_path).cells
  config = dense_config("detection")
  with config.unlocked():
    config.recipe.mixup = 0.2
  with pytest.raises(SpecError, match="mixup"):
    study.Study(config, tmp_path).run()
