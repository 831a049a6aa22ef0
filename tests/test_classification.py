import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_compress.tasks import TASKS, load_task
from robust_compress.tasks.classification import Classification
from robust_compress.types import DataError, Recipe, SpecError

TASK = Classification()


def logits(n=6, k=7, seed=0):
  return np.random.default_rng(seed).normal(size=(n, k)).astype(np.float32)


def batch(label, mask=None, **more):
  label = np.asarray(label)
  return {"label": label, "mask": np.ones(len(label), bool) if mask is None else np.array(mask), **more}


def mean_loss(outputs, batch):
  total, weight = TASK.loss(jnp.asarray(outputs), {name: jnp.asarray(value) for name, value in batch.items()})[
    "cross_entropy"
  ]
  return float(total / weight)


def cross_entropy(outputs, distribution):
  log_p = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
  return float(-(distribution * log_p).sum(-1).mean())


def test_loss_is_the_cross_entropy_of_indices_and_of_distributions():
  x, label = logits(), np.array([0, 1, 2, 3, 4, 6], np.int32)
  one_hot = np.eye(7, dtype=np.float32)[label]
  assert mean_loss(x, batch(label)) == pytest.approx(cross_entropy(x, one_hot), rel=1e-5)
  assert mean_loss(x, batch(one_hot)) == pytest.approx(cross_entropy(x, one_hot), rel=1e-5)


def test_masked_and_unlabelled_rows_have_no_weight_whatever_they_hold():
  x = logits()
  x[4:] = np.nan
  named = TASK.loss(jnp.asarray(x), batch(np.int32([1, 2, 3, -1, 1, 1]), [1, 1, 1, 1, 0, 0]))
  total, weight = named["cross_entropy"]
  assert weight == 3
  assert float(total / weight) == pytest.approx(cross_entropy(x[:3], np.eye(7)[[1, 2, 3]]), rel=1e-5)


def augmented(recipe, seed=0, n=6, mask=None):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (n, 8, 10, 3)).astype(np.uint8)
  given = {"image": jnp.asarray(image), **batch(np.arange(n, dtype=np.int32), mask)}
  return image, TASK.augment(given, jax.random.key(seed), recipe)


def test_nothing_is_augmented_by_default():
  image, result = augmented(Recipe())
  np.testing.assert_array_equal(result["image"], image)
  assert result["image"].dtype == np.uint8
  assert set(result) == {"image", "label", "mask"}


def test_label_smoothing_spreads_over_all_classes():
  x, label = logits(), np.arange(6, dtype=np.int32)
  _, result = augmented(Recipe(label_smoothing=0.1))
  expected = cross_entropy(x, 0.9 * np.eye(7)[label] + 0.1 / 7)
  assert mean_loss(x, batch(label, smoothing=result["smoothing"])) == pytest.approx(expected, rel=1e-5)


def test_mixup_mixes_pixels_as_it_mixes_labels():
  image, result = augmented(Recipe(mixup=0.5))
  share = np.array(result["mix"])
  assert 0 < share[0] < 1
  expected = (1 - share[0]) * image + share[0] * image[::-1].astype(np.float32)
  np.testing.assert_allclose(result["image"], expected, atol=1e-3)
  x, eye = logits(), np.eye(7)[:6]
  mixed = cross_entropy(x, (1 - share[0]) * eye + share[0] * eye[::-1])
  assert mean_loss(x, {name: result[name] for name in ("label", "label2", "mix", "mask")}) == pytest.approx(
    mixed, rel=1e-5
  )


def test_cutmix_pastes_a_box_whose_area_is_the_share():
  for seed in range(5):
    image, result = augmented(Recipe(cutmix=1.0), seed)
    mixed = np.array(result["image"])
    from_opposite = (mixed == image[::-1]).all(-1) & ~(mixed == image).all(-1)
    np.testing.assert_array_equal(np.where(from_opposite[..., None], image[::-1], image), mixed)
    np.testing.assert_allclose(from_opposite.mean((1, 2)), result["mix"], atol=1e-6)


def test_both_mixtures_take_turns():
  is_mixup = [
    np.unique(np.array(augmented(Recipe(mixup=1.0, cutmix=1.0), seed)[1]["image"]) % 1).size > 1 for seed in range(12)
  ]
  assert 0 < sum(is_mixup) < 12


def test_a_row_mixed_with_padding_is_padding():
  _, result = augmented(Recipe(mixup=1.0), mask=[1, 1, 1, 1, 1, 0])
  assert np.array(result["mask"]).tolist() == [False, True, True, True, True, False]


def test_predictions_are_ordered_and_ties_go_to_the_lower_class():
  x = np.zeros((2, 9), np.float32)
  x[1, [3, 5]] = 1
  found = TASK.predict(jnp.asarray(x), {})
  assert np.array(found["top5"]).tolist() == [[0, 1, 2, 3, 4], [3, 5, 0, 1, 2]]
  assert np.array(found["top1"]).tolist() == [0, 3]
  assert found["top5"].dtype == found["top1"].dtype == np.int32


def test_fewer_than_five_classes():
  found = TASK.predict(jnp.asarray(logits(4, 3)), {})
  assert np.array(found["top5"]).shape == (4, 5)
  assert (np.array(found["top5"])[:, 3:] == -1).all()
  records = TASK.statistics(found, {"label": np.array([0, 1, 2, 0])})
  assert all(record["correct5"] == 1 for record in records)


def stacked(found, label):
  records = TASK.statistics(found, {"label": label})
  return {name: np.array([record[name] for record in records]) for name in records[0]}


def test_scores_and_weights():
  x, label = logits(50), np.random.default_rng(1).integers(0, 7, 50)
  records = stacked(TASK.predict(jnp.asarray(x), {}), label)
  assert records["correct1"].dtype == np.uint8
  assert TASK.compute(records)["top1"] == pytest.approx((x.argmax(1) == label).mean())
  counts = np.random.default_rng(2).integers(0, 3, 50)
  repeated = {name: np.repeat(values, counts) for name, values in records.items()}
  weighted = TASK.compute(records, counts.astype(np.float64))
  assert weighted == pytest.approx(TASK.compute(repeated))


def test_own_predictions_are_a_perfect_target():
  found = TASK.predict(jnp.asarray(logits(20)), {})
  assert TASK.compute(stacked(found, TASK.as_targets(found)["label"])) == {"top1": 1.0, "top5": 1.0}


def test_pictures_without_a_class_cannot_be_scored_by_labels():
  with pytest.raises(DataError, match="1 pictures of a batch of 2 have no label"):
    TASK.statistics(TASK.predict(jnp.asarray(logits(2)), {}), {"label": np.array([1, -1])})


@pytest.mark.parametrize("name", TASKS)
def test_table_loads(name):
  task = load_task(name)
  assert task.name == name
  assert task.version
  assert task.primary_metric


def test_tasks_by_name():
  assert isinstance(load_task("robust_compress.tasks.classification:Classification"), Classification)
  with pytest.raises(SpecError, match="did you mean 'classification'"):
    load_task("clasification")
  with pytest.raises(SpecError, match=r"no attribute of robust_compress.tasks 'nothing'"):
    load_task("robust_compress.tasks:nothing")
