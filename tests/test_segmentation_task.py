import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import segmentation_cases as cases

from robust_compress import statistics
from robust_compress.evaluate import evaluate
from robust_compress.tasks import resampling
from robust_compress.tasks.segmentation import Segmentation, unpacked
from robust_compress.types import IGNORED, DataError

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "segmentation.npz")
TASK = Segmentation()
K = cases.N_CLASSES


def padded(maps, shape=cases.CANVAS):
  """(uint8[n H W], int32[n 2]) of maps of any size."""
  sides = [(shape[0] - len(one), shape[1] - one.shape[1]) for one in maps]
  canvas = [np.pad(one, ((0, y), (0, x)), constant_values=IGNORED) for one, (y, x) in zip(maps, sides)]
  return np.stack(canvas), np.array([one.shape for one in maps], np.int32)


def both(pairs=None):
  """(predictions, targets) of pairs of maps."""
  found, truth = zip(*(pairs or cases.maps()))
  (found, size), (truth, _) = padded(found), padded(truth)
  predictions = {"segmentation": found, "size": size, "n_classes": np.full(len(size), K, np.int32)}
  return predictions, {"segmentation": truth, "size": size, "id": np.array([f"{i}.png" for i in range(len(size))])}


def records(*args):
  return statistics.stack(TASK.statistics(*(args or both())))


# --------------------------------------------------------------------------------------------- metrics


def test_metrics_are_those_of_mmsegmentation():
  found, classes = TASK.compute(records()), TASK.per_class(records())
  assert found["global_accuracy"] == pytest.approx(float(GOLDEN["aAcc"]), abs=1e-6)  # theirs are float32
  assert found["mIoU"] == pytest.approx(float(np.nanmean(GOLDEN["IoU"])), abs=1e-6)
  assert found["mean_accuracy"] == pytest.approx(float(np.nanmean(GOLDEN["Acc"])), abs=1e-6)
  for label in range(K):
    if np.isnan(GOLDEN["IoU"][label]):
      assert label not in classes
    else:
      expected = {"IoU": GOLDEN["IoU"][label], "accuracy": GOLDEN["Acc"][label]}
      assert classes[label] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_metrics_are_those_of_a_confusion_matrix():
  found, truth = (np.concatenate([one.ravel() for one in maps]) for maps in zip(*cases.maps()))
  found, truth = found[truth != IGNORED], truth[truth != IGNORED]
  confusion = np.zeros((K, K))
  np.add.at(confusion, (truth, found), 1)
  right, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
  metrics = TASK.compute(records())
  assert metrics["mIoU"] == pytest.approx((right[union > 0] / union[union > 0]).mean())
  assert metrics["global_accuracy"] == pytest.approx(right.sum() / confusion.sum())
  there = confusion.sum(1) > 0
  assert metrics["mean_accuracy"] == pytest.approx((right[there] / confusion.sum(1)[there]).mean())


def test_weights_are_multiplicities():
  counts = np.array([2, 0, 1, 3])
  repeated = [pair for pair, n in zip(cases.maps(), counts) for _ in range(n)]
  literal = records(*both(repeated))
  assert TASK.compute(records(), counts.astype(np.float64)) == pytest.approx(TASK.compute(literal))
  assert TASK.per_class(records(), counts) == {
    label: pytest.approx(found, nan_ok=True) for label, found in TASK.per_class(literal).items()
  }


def test_nothing_that_counts_has_no_metric():
  nothing = np.full((3, 4), IGNORED, np.uint8)
  found = TASK.compute(records(*both([(np.zeros((3, 4), np.uint8), nothing)])))
  assert all(np.isnan(value) for value in found.values())
  assert all(np.isnan(value) for value in TASK.compute(statistics.take(records(), slice(0))).values())


def test_predictions_that_do_not_say_how_many_classes():
  predictions, targets = both()
  del predictions["n_classes"]
  assert TASK.compute(records(predictions, targets)) == pytest.approx(TASK.compute(records()))


def test_labels_beyond_the_model_are_named():
  predictions, targets = both()
  targets["segmentation"][2, 0, :2] = 9
  with pytest.raises(
    DataError, match=r"2.png: 2 pixels have label 9, and the model has classes 0 to 6; the data needs"
  ):
    TASK.statistics(predictions, targets)


def test_sizes_that_differ_are_named():
  predictions, targets = both()
  predictions["size"] = predictions["size"] - np.array([[0, 0], [1, 0], [0, 0], [0, 0]], np.int32)
  with pytest.raises(DataError, match=r"1.png: the segmentation is of \(17, 64\) pixels, .* of \(16, 64\)"):
    TASK.statistics(predictions, targets)


# ------------------------------------------------------------------------------------------- resampling


def view_batch():
  extents, sizes = (np.array(x, np.float32) for x in zip(*cases.VIEWS))
  place = np.concatenate([np.zeros_like(sizes), sizes / extents, extents], 1)
  canvas = np.zeros((len(sizes), *cases.CANVAS), np.uint8)
  return {"place": place, "segmentation": canvas, "size": sizes.astype(np.int32)}


def test_resampled_as_torch_does():
  found = jax.jit(TASK.predict)({"logits": cases.logits()}, view_batch())
  for index, (_, size) in enumerate(cases.VIEWS):
    np.testing.assert_array_equal(unpacked(np.asarray(found["segmentation"])[index], size), GOLDEN[f"view{index}"])
    assert (np.asarray(found["segmentation"])[index, size[0] :] == IGNORED).all()
    assert (np.asarray(found["segmentation"])[index, :, size[1] :] == IGNORED).all()
  assert np.asarray(found["n_classes"]).tolist() == [K] * len(cases.VIEWS)


@pytest.mark.parametrize("strip", [1, 70 * K * 8, 10**9])
def test_strips_do_not_show(strip, monkeypatch):
  whole = TASK.predict({"logits": cases.logits()}, view_batch())
  monkeypatch.setattr(resampling, "STRIP", strip)
  found = TASK.predict({"logits": cases.logits()}, view_batch())
  np.testing.assert_array_equal(found["segmentation"], whole["segmentation"])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_input_itself_is_not_touched(dtype):
  """Ties and all: of equal logits the first class. Alone, and beside a picture that is resampled."""
  logits = jnp.asarray(np.round(cases.logits() * 2), dtype)
  n, height, width, _ = logits.shape
  place = np.tile(np.array([0, 0, 1, 1, height, width], np.float32), (n, 1))
  batch = {"place": place, "segmentation": np.zeros((n, height, width), np.uint8), "size": np.int32(place[:, 4:])}
  expected = np.asarray(logits).argmax(-1)
  np.testing.assert_array_equal(TASK.predict({"logits": logits}, batch)["segmentation"], expected)
  batch["place"] = np.concatenate([place[:-1], [[0, 0, 2, 2, height // 2, width // 2]]]).astype(np.float32)
  found = np.asarray(TASK.predict({"logits": logits}, batch)["segmentation"])
  np.testing.assert_array_equal(found[:-1], expected[:-1])
  assert (found[-1] != expected[-1]).any()


def test_a_crop_is_placed_by_its_start():
  """An input that is the view from (3, 5) on: beyond its edge the edge is repeated."""
  logits = cases.logits()[:1]
  place = np.array([[3, 5, 1, 1, *cases.INPUT]], np.float32)
  batch = {"place": place, "segmentation": np.zeros((1, 30, 40), np.uint8), "size": np.array([[30, 40]], np.int32)}
  found = np.asarray(TASK.predict({"logits": logits}, batch)["segmentation"])[0]
  expected = np.pad(logits[0].argmax(-1), ((3, 3), (5, 3)), mode="edge")
  np.testing.assert_array_equal(found, expected)


def test_pictures_without_labels_are_predicted_at_the_input():
  logits, place = cases.logits(), view_batch()["place"]
  found = TASK.predict({"logits": logits}, {"place": place})
  assert np.asarray(found["size"]).tolist() == [list(extent) for extent, _ in cases.VIEWS]
  np.testing.assert_array_equal(found["segmentation"][0], logits[0].argmax(-1))
  bare = TASK.predict(logits, {})
  np.testing.assert_array_equal(bare["segmentation"], logits.argmax(-1))
  assert np.asarray(bare["size"]).tolist() == [list(cases.INPUT)] * len(logits)


def test_more_classes_than_a_pixel_holds():
  with pytest.raises(DataError, match="256 classes"):
    TASK.predict({"logits": np.zeros((1, 2, 2, 256), np.float32)}, {})


# ------------------------------------------------------------------------------------------- own targets


def test_packed_predictions_are_the_same_targets():
  predictions, _ = both()
  packed = TASK.packed(predictions)
  assert all(pixels.ndim == 1 and pixels.dtype == np.uint8 for pixels in packed["segmentation"])
  for index, size in enumerate(packed["size"]):
    np.testing.assert_array_equal(unpacked(packed["segmentation"][index], size), cases.maps()[index][0])
  for kept in (predictions, packed):
    metrics = TASK.compute(records(predictions, TASK.as_targets(kept)))
    assert metrics == {"mIoU": 1, "global_accuracy": 1, "mean_accuracy": 1}


def test_smooth_segmentations_pack_small():
  y, x = np.mgrid[:400, :600]
  smooth = ((x // 90 + y // 70) % 5).astype(np.uint8)
  [packed] = TASK.packed({"segmentation": smooth[None], "size": np.array([smooth.shape])})["segmentation"]
  assert len(packed) < smooth.size / 50


def test_evaluation_keeps_packed_predictions():
  predictions, targets = both()
  ids = targets["id"]

  def batches(size):
    for start in range(0, len(ids), size):
      rows = np.minimum(np.arange(start, start + size), len(ids) - 1)
      mask = np.arange(start, start + size) < len(ids)
      part = {name: value[rows] for name, value in targets.items()}
      yield {**part, "mask": mask, "row": rows, "image": np.zeros((size, 1, 1, 3), np.uint8)}

  def predict(batch):
    return {name: value[batch["row"]] for name, value in predictions.items()}

  original = evaluate(predict, TASK, batches(3), keep_predictions=True)
  assert original.predictions["segmentation"].dtype == object
  assert TASK.compute(original.records["labels"]) == TASK.compute(records())
  again = evaluate(predict, TASK, batches(2), {"self": original.as_self()})
  assert TASK.compute(again.records["self"])["mIoU"] == 1


# ------------------------------------------------------------------------------------------------- loss


def loss_batch():
  label = np.random.default_rng(2).integers(0, K, (len(cases.VIEWS), *cases.INPUT)).astype(np.uint8)
  label[:, :5] = IGNORED
  return {"segmentation": label, "mask": np.array([True, True, False, True])}


def test_loss_is_the_mean_over_pixels_that_count():
  logits, batch = cases.logits(), loss_batch()
  outputs = {"logits": logits, "auxiliary": logits[..., ::-1]}
  losses = jax.jit(TASK.loss)(outputs, batch)
  counts = (batch["segmentation"] != IGNORED) & batch["mask"][:, None, None]
  for name, values, share in (("cross_entropy", logits, 1.0), ("auxiliary", logits[..., ::-1], 0.4)):
    p = np.exp(values[counts].astype(np.float64))
    expected = -np.log(p[np.arange(len(p)), batch["segmentation"][counts]] / p.sum(-1)).mean()
    total, n = losses[name]
    assert float(n) == counts.sum()
    assert float(total / n) == pytest.approx(share * expected, rel=1e-5)
  assert set(TASK.loss({"logits": logits}, batch)) == {"cross_entropy"}


def test_masked_rows_and_pixels_have_no_gradient():
  batch = loss_batch()
  logits = np.where(batch["mask"][:, None, None, None], cases.logits(), np.float32(1e30))
  gradient = jax.grad(lambda x: TASK.loss({"logits": x}, batch)["cross_entropy"][0])(jnp.asarray(logits))
  assert np.isfinite(gradient).all()
  assert not np.asarray(gradient)[2].any()
  assert not np.asarray(gradient)[:, :5].any()
  assert np.asarray(gradient)[0, 5:].any()


def test_a_label_without_a_class_stops_training():
  batch = loss_batch()
  batch["segmentation"][0, 10, 10] = K
  assert np.isnan(float(TASK.loss({"logits": cases.logits()}, batch)["cross_entropy"][0]))
