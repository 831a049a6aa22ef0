import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from golden import detection_cases

from robust_compress import statistics
from robust_compress.evaluate import evaluate
from robust_compress.tasks.detection import Detection
from robust_compress.types import TrainError

GOLDEN = pathlib.Path(__file__).parent / "golden"
TRUTH = ("boxes", "box_labels", "box_areas", "box_kinds")
COCO_AP = json.loads((GOLDEN / "coco_ap.json").read_text())
TASK = Detection()


def stacked(pictures, task=TASK):
  """Records of pictures with any number of boxes each."""
  return statistics.stack([record for picture in pictures for record in recorded(picture, task)])


def recorded(picture, task=TASK):
  found = {"boxes": picture["found"], "scores": picture["scores"], "labels": picture["labels"]}
  truth = {name: picture[name] for name in TRUTH}
  return task.statistics(*({name: value[None] for name, value in part.items()} for part in (found, truth)))


def one(boxes=(), labels=(), kinds=None, found=(), found_labels=None, scores=None):
  """A picture of a few boxes; detections best first, of class 0."""
  boxes, found = (np.array(x, np.float32).reshape(-1, 4) for x in (boxes, found))
  areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  return {
    "boxes": boxes,
    "box_labels": np.array(labels if len(labels) else [0] * len(boxes), np.int32),
    "box_areas": areas,
    "box_kinds": np.array([0] * len(boxes) if kinds is None else kinds, np.uint8),
    "found": found,
    "labels": np.array([0] * len(found) if found_labels is None else found_labels, np.int32),
    "scores": np.linspace(0.9, 0.6, len(found), dtype=np.float32) if scores is None else np.float32(scores),
  }


BOX, NEAR, FAR = (10, 10, 50, 50), (12, 10, 52, 50), (100, 100, 140, 140)

# ------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize("name", COCO_AP)
def test_equal_to_pycocotools(name):
  records, expected = stacked(detection_cases.pictures(name)), COCO_AP[name]
  found, classes = TASK.compute(records), TASK.per_class(records)
  for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR"):
    assert found[metric] == pytest.approx(expected[metric], abs=1e-9), metric
  for label, (ap, ap50) in expected["per_class"].items():
    if ap < 0:
      assert int(label) not in classes
    else:
      assert classes[int(label)]["AP"] == pytest.approx(ap, abs=1e-9)
      assert classes[int(label)]["AP50"] == pytest.approx(ap50, abs=1e-9)


def test_equal_to_mmdetection_by_the_rules_of_voc():
  found = TASK.compute(stacked(detection_cases.pictures("difficult")))
  assert found["VOC07"] == pytest.approx(COCO_AP["difficult"]["VOC07"], abs=1e-6)  # theirs are float32
  assert found["VOC10"] == pytest.approx(COCO_AP["difficult"]["VOC10"], abs=1e-6)


# ------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize(
  ("picture", "ap50", "voc07"),
  [
    (one([BOX], found=[BOX]), 1, 1),
    (one([BOX], found=[FAR]), 0, 0),
    (one([BOX], found=[FAR, BOX]), 0.5, 0.5),
    (one([BOX], found=[BOX, NEAR]), 1, 1),  # the second is wrong, after all that can be found
    (one([BOX, FAR], found=[BOX, NEAR, FAR]), (51 + 50 * 2 / 3) / 101, (6 + 5 * 2 / 3) / 11),
    (one([BOX], found=[BOX], found_labels=[1]), 0, 0),
    (one([BOX, FAR], kinds=[0, 1], found=[FAR, FAR, BOX]), 1, 1),  # a crowd takes any number
    (one([BOX, FAR], kinds=[0, 2], found=[FAR, BOX]), 1, 1),
    (one([BOX, FAR], kinds=[0, 2], found=[FAR, FAR, BOX]), 0.5, 1),  # a difficult object, of COCO only once
    (one([BOX], kinds=[1], found=[BOX]), np.nan, np.nan),
    (one(found=[BOX]), np.nan, np.nan),
    (one([BOX]), 0, 0),
    (one(), np.nan, np.nan),
  ],
)
def test_rules(picture, ap50, voc07):
  found = TASK.compute(stacked([picture]))
  assert found["AP50"] == pytest.approx(ap50, nan_ok=True)
  assert found["VOC07"] == pytest.approx(voc07, nan_ok=True)


def test_sizes_are_told_by_areas_of_objects():
  small, large = (0, 0, 20, 20), (0, 0, 200, 200)
  found = TASK.compute(stacked([one([small, large], found=[small])]))
  assert (found["APs"], found["APl"]) == (1, 0)
  assert np.isnan(found["APm"])


def test_what_is_not_there_changes_nothing():
  """Rows of a batch are padded with label -1; whatever else stands there."""
  pictures = detection_cases.pictures("sizes")[:40]
  plain = stacked(pictures)
  longest = max(max(len(picture["boxes"]), len(picture["found"])) for picture in pictures)
  padded = {
    name: np.stack([_padded(picture[name], longest, -1 if "labels" in name else 3) for picture in pictures])
    for name in pictures[0]
  }
  records = statistics.stack(TASK.statistics({**padded, "boxes": padded["found"]}, padded))
  assert TASK.compute(records) == TASK.compute(plain)


def _padded(values, n, fill):
  return np.concatenate([values, np.full((n - len(values), *values.shape[1:]), fill, values.dtype)])


def test_order_of_detections_and_pictures_does_not_matter_without_ties():
  pictures = detection_cases.pictures("difficult")
  rng = np.random.default_rng(0)
  shuffled = []
  for index in rng.permutation(len(pictures)):
    order = rng.permutation(len(pictures[index]["scores"]))
    moved = {name: pictures[index][name][order] for name in ("found", "scores", "labels")}
    shuffled.append({**pictures[index], **moved})
  assert TASK.compute(stacked(shuffled)) == pytest.approx(TASK.compute(stacked(pictures)), abs=1e-12)


# ------------------------------------------------------------------------------------------- bootstrap


def test_weights_are_multiplicities():
  pictures = detection_cases.pictures("difficult")
  counts = np.random.default_rng(1).integers(0, 4, len(pictures))
  repeated = [picture for picture, n in zip(pictures, counts) for _ in range(n)]
  weights = counts.astype(np.float64)
  records, literal = stacked(pictures), stacked(repeated)
  assert TASK.compute(records, weights) == pytest.approx(TASK.compute(literal), abs=1e-12)
  classes = TASK.per_class(literal)
  assert TASK.per_class(records, weights) == {label: pytest.approx(found) for label, found in classes.items()}


def test_a_class_that_was_not_drawn_is_in_no_mean():
  records = stacked([one([BOX], labels=[0], found=[BOX]), one([BOX], labels=[1], found=[FAR], found_labels=[1])])
  assert TASK.compute(records)["AP"] == 0.5
  assert TASK.compute(records, np.array([1.0, 0.0]))["AP"] == 1
  assert TASK.compute(records, np.array([0.0, 2.0]))["AP"] == 0
  assert np.isnan(TASK.compute(records, np.zeros(2))["AP"])


def test_records_of_other_pictures_are_sorted_anew():
  task = Detection()
  right, wrong = stacked([one([BOX], found=[BOX])], task), stacked([one([BOX], found=[FAR])], task)
  assert [task.compute(records)["AP"] for records in (right, wrong, right)] == [1, 0, 1]
  assert np.isnan(task.compute(statistics.take(right, slice(0)))["AP"])


def test_intervals_lie_about_the_metric():
  pictures = detection_cases.pictures("sizes")
  records, ids = stacked(pictures), [f"{index:04d}" for index in range(len(pictures))]
  found = statistics.replicates(TASK.compute, records, ids, 50)
  low, high = statistics.interval(found["AP"])
  assert low < TASK.compute(records)["AP"] < high
  assert high - low < 0.1


# ------------------------------------------------------------------------------------------- own targets


def predictions(pictures):
  longest = max(len(picture["found"]) for picture in pictures)
  fills = {"boxes": ("found", 0), "scores": ("scores", 0), "labels": ("labels", -1)}
  return {
    name: np.stack([_padded(picture[source], longest, fill) for picture in pictures])
    for name, (source, fill) in fills.items()
  }


@pytest.mark.parametrize("score", [0.1, 0.5, 0.9])
def test_own_detections_are_a_perfect_target(score):
  found = predictions(detection_cases.pictures("difficult"))
  truth = TASK.as_targets(found, score=score)
  n = int(((found["scores"] >= np.float32(score)) & (found["labels"] >= 0)).sum())
  assert (truth["box_labels"] >= 0).sum() == n
  metrics = TASK.compute(statistics.stack(TASK.statistics(found, truth)))
  assert (metrics["AP"], metrics["AP50"], metrics["AP75"]) == pytest.approx((1, 1, 1))
  assert min(metrics.values()) > 0.97  # equal boxes, and those about the bound of a size, are taken for each other


def test_a_half_is_the_score_of_a_bare_self():
  found = predictions(detection_cases.pictures("difficult"))
  bare, said = TASK.as_targets(found), TASK.as_targets(found, score=0.5)
  assert {name: value.tolist() for name, value in bare.items()} == {
    name: value.tolist() for name, value in said.items()
  }


def test_pictures_with_different_numbers_of_detections_make_targets():
  pictures = [one(found=[BOX, FAR]), one(), one(found=[BOX])]
  ragged = statistics.stack([{"boxes": p["found"], "scores": p["scores"], "labels": p["labels"]} for p in pictures])
  truth = TASK.as_targets(ragged)
  assert truth["box_labels"].tolist() == [[0, 0], [-1, -1], [0, -1]]
  assert truth["box_areas"].tolist() == [[1600, 1600], [0, 0], [1600, 0]]


def test_a_detection_without_area_is_no_object_to_be_found_again():
  flat = {"boxes": np.float32([[[5, 0, 5, 40], [0, 0, 40, 40]]]), "scores": np.ones((1, 2)), "labels": np.ones((1, 2))}
  assert TASK.as_targets(flat)["box_labels"].tolist() == [[-1, 1]]


def test_evaluation_against_labels_and_itself():
  pictures = detection_cases.pictures("difficult")[:11]
  found = predictions(pictures)
  longest = max(len(picture["boxes"]) for picture in pictures)
  truth = {
    name: np.stack([_padded(p[name], longest, -1 if "labels" in name else 0) for p in pictures]) for name in TRUTH
  }
  ids = np.array([f"{index:02d}" for index in range(len(pictures))])

  def batches(size):
    for start in range(0, len(ids), size):
      rows = np.minimum(np.arange(start, start + size), len(ids) - 1)
      part = {name: value[rows] for name, value in truth.items()} | {"id": ids[rows]}
      mask = np.arange(start, start + size) < len(ids)
      yield {**part, "mask": mask, "row": rows, "image": np.zeros((size, 1, 1, 3), np.uint8)}

  def predict(batch):
    return {name: value[batch["row"]] for name, value in found.items()}

  original = evaluate(predict, TASK, batches(4), keep_predictions=True)
  assert TASK.compute(original.records["labels"]) == TASK.compute(stacked(pictures))
  targets = {"labels": None, "self(score=0.3)": original.as_self()}
  again = evaluate(predict, TASK, batches(3), targets)
  assert TASK.compute(again.records["self(score=0.3)"])["AP"] == 1
  assert TASK.compute(again.records["labels"]) == TASK.compute(stacked(pictures))


# ------------------------------------------------------------------------------------------- on the device


def test_boxes_return_to_the_view():
  outputs = {
    "boxes": jnp.asarray([[[0, 0, 10, 20], [5, 5, 90, 90]]] * 2, jnp.float32),
    "scores": jnp.asarray([[0.9, 0.8]] * 2, jnp.float32),
    "labels": jnp.asarray([[3, -1]] * 2, jnp.int32),
  }
  place = jnp.asarray([[0, 0, 2, 0.5, 30, 40], [7, 1, 1, 1, 90, 60]], jnp.float32)
  found = TASK.predict(outputs, {"place": place})
  assert found["boxes"].tolist() == [[[0, 0, 5, 40], [2.5, 10, 20, 60]], [[1, 7, 11, 27], [6, 12, 61, 97]]]
  sized = TASK.predict(outputs, {"place": place, "size": jnp.asarray([[59, 20], [90, 200]], jnp.int32)})
  assert sized["boxes"][:, 1].tolist() == [[2.5, 10, 20, 59], [6, 12, 61, 90]]
  bare = TASK.predict(outputs, {})
  assert bare["boxes"].tolist() == outputs["boxes"].tolist()
  assert {name: value.dtype.name for name, value in bare.items()} == {
    "boxes": "float32",
    "scores": "float32",
    "labels": "int32",
  }


def test_detectors_own_their_losses():
  with pytest.raises(TrainError, match="needs own_loss"):
    TASK.loss({}, {})
