"""Batches: complete, deterministic, resumable from any step, the same by every backend and on any number of hosts."""

import dataclasses
import itertools
import threading
import time
import tracemalloc

import numpy as np
import pytest
from fakes import MemorySource, photo

from robust_compress.data import image_ops, order, pipeline
from robust_compress.data.pipeline import eval_batches, train_batches
from robust_compress.types import DataError, InputSpec, Picture, Recipe, SpecError, View

BACKENDS = ["threads", "tf.data"]
SPEC = InputSpec((24, 24), 28, "bilinear")
VIEW, ASIS = View(), View(input="asis")
RECIPE = Recipe(steps=10, batch_size=4, crop_scale=(0.3, 1.0))


def pictures(n=11, bad=(), shift=0):
  return MemorySource([photo(30 + i, 41 - i, seed=i + shift) for i in range(n)], bad=bad)


def take(batches, n):
  """The first n, with the generator closed."""
  made = list(itertools.islice(batches, n))
  batches.close()
  return made


def assert_same(first, second):
  for a, b in zip(first, second, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)
      assert a[key].dtype == b[key].dtype or key == "id"


def ids_of(batches):
  return [str(id) for batch in batches for id, good in zip(batch["id"], batch["mask"], strict=True) if good]


# ------------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_sees_every_example_once_in_order(backend):
  source = pictures()
  batches = list(eval_batches(source, SPEC, VIEW, 4, backend=backend))
  assert ids_of(batches) == source.ids
  assert [batch["mask"].sum() for batch in batches] == [4, 4, 3]
  for index, (batch, row) in enumerate(itertools.product(batches, range(4))):
    if index < 11:
      expected = image_ops.to_input(source.clips[index], SPEC, VIEW)
      np.testing.assert_array_equal(batch["image"][row], expected)
      assert batch["label"][row] == source.target(index)["label"]
      assert batch["n_pixels"][row] == (30 + index) * (41 - index)
  padding = {key: value[3] for key, value in batches[-1].items()}
  assert (padding["id"], padding["mask"], padding["n_pixels"], padding["n_bytes"]) == ("", False, 0, -1)
  assert not padding["image"].any()


def test_batches_are_of_the_dtypes_promised():
  batch = next(eval_batches(pictures(), SPEC, VIEW, 4))
  dtypes = {key: value.dtype.kind + str(value.dtype.itemsize) for key, value in batch.items() if key != "id"}
  assert dtypes == {"image": "u1", "mask": "b1", "skipped": "b1", "n_bytes": "i8", "n_pixels": "i8", "label": "i4"}
  assert batch["id"].dtype.kind == "U"


def test_backends_are_bitwise_equal():
  assert_same(
    eval_batches(pictures(bad=(2,)), SPEC, VIEW, 4, on_bad="skip"),
    eval_batches(pictures(bad=(2,)), SPEC, VIEW, 4, on_bad="skip", backend="tf.data"),
  )
  made = [train_batches([pictures(bad=(2,))], SPEC, VIEW, RECIPE, 0, on_bad="skip", backend=b) for b in BACKENDS]
  assert_same(take(made[0](0), 7), take(made[1](0), 7))


@pytest.mark.parametrize("n_hosts", [2, 4])
def test_hosts_share_evaluation(n_hosts):
  source = pictures(9)  # the last batch of four hosts has three with nothing but padding
  shares = [list(eval_batches(source, SPEC, VIEW, 4, host=host, n_hosts=n_hosts)) for host in range(n_hosts)]
  assert {len(share) for share in shares} == {3}
  for host, share in enumerate(shares):
    assert ids_of(share) == source.ids[host::n_hosts]
    assert {len(batch["mask"]) for batch in share} == {4 // n_hosts}


@pytest.mark.parametrize("backend", BACKENDS)
def test_asis_feeds_the_view_and_names_the_picture_that_differs(backend):
  source = MemorySource([photo(20, 30, seed=i) for i in range(5)])
  batches = list(eval_batches(source, SPEC, ASIS, 2, backend=backend))
  assert batches[0]["image"].shape == (2, 20, 30, 3)
  np.testing.assert_array_equal(batches[1]["image"][0], source.clips[2][0])
  source.clips[3] = photo(25, 30)
  with pytest.raises(DataError, match=r"0003\.png: the picture is 30x25 and picture/0000\.png is 30x20; input=asis"):
    list(eval_batches(source, SPEC, ASIS, 2, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_unreadable_pictures_stop_or_are_counted(backend):
  with pytest.raises(DataError, match=r"picture/0005\.png: truncated"):
    list(eval_batches(pictures(bad=(5, 7)), SPEC, VIEW, 4, backend=backend))
  batches = list(eval_batches(pictures(bad=(5, 7)), SPEC, VIEW, 4, on_bad="skip", backend=backend))
  skipped = [str(id) for batch in batches for id in batch["id"][batch["skipped"]]]
  assert skipped == ["picture/0005.png", "picture/0007.png"]
  assert len(ids_of(batches)) == 9
  assert not batches[1]["image"][batches[1]["skipped"]].any()


class BadMasks(MemorySource):
  """Segmentations, of which those of `bad` cannot be read; the pictures can."""

  def target(self, index):
    if index in self.bad:
      raise DataError(f"{self.ids[index]}: its mask is of another size")
    size = self.clips[index].shape[1:3]
    return {"segmentation": np.full(size, index, np.uint8), "size": np.array(size, np.int32)}

  def picture(self, index):
    return Picture(self.clips[index], None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unreadable_labels_are_skipped_as_unreadable_pictures_are(backend):
  """Also where the first of all is, and a whole batch."""
  source = BadMasks([photo(20, 30, seed=i) for i in range(7)], bad=(0, 2, 3))
  with pytest.raises(DataError, match=r"0000\.png: its mask"):
    list(eval_batches(source, SPEC, VIEW, 2, backend=backend))
  batches = list(eval_batches(source, SPEC, VIEW, 2, on_bad="skip", backend=backend))
  assert ids_of(batches) == [source.ids[index] for index in (1, 4, 5, 6)]
  assert [batch["skipped"].sum() for batch in batches] == [1, 2, 0, 0]
  assert {batch["segmentation"].shape[0] for batch in batches} == {2}
  trained = take(train_batches([source], SPEC, VIEW, RECIPE, 0, on_bad="skip", backend=backend)(0), 4)
  assert set(ids_of(trained)) == {source.ids[index] for index in (1, 4, 5, 6)}
  assert any(batch["skipped"].any() for batch in trained)
  with pytest.raises(DataError, match="its mask"):
    take(train_batches([source], SPEC, VIEW, RECIPE, 0, backend=backend)(0), 2)


def test_asis_takes_its_size_from_the_first_readable_picture():
  source = MemorySource([photo(20, 30)] * 3, bad=(0, 1))
  [batch] = eval_batches(source, SPEC, ASIS, 4, on_bad="skip")
  assert batch["image"].shape == (4, 20, 30, 3)
  assert batch["mask"].tolist() == [False, False, True, False]
  [batch] = eval_batches(MemorySource([photo()], bad=(0,)), SPEC, ASIS, 2, on_bad="skip")
  assert batch["image"].shape == (2, 24, 24, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_other_exception_reaches_the_caller(backend):
  class Broken(MemorySource):
    def picture(self, index):
      if index == 6:
        raise ZeroDivisionError("at example 6")
      return super().picture(index)

  batches = eval_batches(Broken([photo()] * 8), SPEC, VIEW, 2, on_bad="skip", backend=backend)
  assert len(take(batches, 3)) == 3
  with pytest.raises(ZeroDivisionError, match="at example 6"):
    list(eval_batches(Broken([photo()] * 8), SPEC, VIEW, 2, on_bad="skip", backend=backend))


# -------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_resumes_at_any_step(backend):
  batches = train_batches([pictures()], SPEC, VIEW, RECIPE, 3, backend=backend)
  whole = take(batches(0), 9)  # 36 rows of 11 examples: epochs end inside batches
  for start in (1, 4, 8):
    again = train_batches([pictures()], SPEC, VIEW, RECIPE, 3, backend=backend)
    assert_same(whole[start:], take(again(start), 9 - start))


def test_every_epoch_has_each_example_once_in_another_order():
  source = pictures()
  ids = ids_of(take(train_batches([source], SPEC, VIEW, RECIPE, 0)(0), 11))
  epochs = [tuple(ids[i : i + 11]) for i in range(0, 44, 11)]
  assert all(sorted(epoch) == source.ids for epoch in epochs)
  assert len(set(epochs)) == 4


def test_a_set_smaller_than_the_batch():
  ids = ids_of(take(train_batches([pictures(3)], SPEC, VIEW, RECIPE, 0)(0), 3))
  assert sorted(ids) == sorted(pictures(3).ids * 4)


@pytest.mark.parametrize("n_hosts", [2, 4])
def test_hosts_share_each_training_batch(n_hosts):
  whole = take(train_batches([pictures()], SPEC, VIEW, RECIPE, 0)(2), 5)
  shares = [
    take(train_batches([pictures()], SPEC, VIEW, RECIPE, 0, host=host, n_hosts=n_hosts)(2), 5)
    for host in range(n_hosts)
  ]
  for batch, *parts in zip(whole, *shares, strict=True):
    assert_same([batch], [{key: np.concatenate([part[key] for part in parts]) for key in batch}])


def test_seed_changes_order_and_crop():
  first, second = (take(train_batches([pictures()], SPEC, VIEW, RECIPE, seed)(0), 3) for seed in (0, 1))
  assert ids_of(first) != ids_of(second)


def test_augmentation_depends_on_the_example_and_the_epoch_only():
  """The same example in the same epoch is cut alike whatever else is in the set; in the next epoch otherwise."""

  def cut(source):
    batches = take(
      train_batches([source], SPEC, VIEW, dataclasses.replace(RECIPE, batch_size=1), 0)(0), 2 * len(source)
    )
    epochs = batches[: len(source)], batches[len(source) :]
    return [{str(b["id"][0]): b["image"][0].tobytes() for b in epoch} for epoch in epochs]

  whole, part = cut(pictures(11)), cut(pictures(6))
  for epoch in (0, 1):
    assert all(whole[epoch][id] == part[epoch][id] for id in part[epoch])
  assert whole[0] != whole[1]


def test_leaving_examples_out_keeps_the_order_of_the_rest():
  ids = [f"{i}" for i in range(200)]
  whole, part = order.Order(ids, 0), order.Order(ids[::3], 0)
  for epoch in (0, 5):
    kept = [ids[whole(epoch * 200 + i)[1]] for i in range(200)]
    there = [ids[::3][part(epoch * 67 + i)[1]] for i in range(67)]
    assert [id for id in kept if id in set(there)] == there


def test_order_is_uniform():
  """Each of eight examples comes first about as often as any other, and successive epochs are not alike."""
  shuffled = order.Order([f"{i}" for i in range(8)], 0)
  first = np.bincount([shuffled(8 * epoch)[1] for epoch in range(4000)], minlength=8)
  assert np.abs(first - 500).max() < 5 * 500**0.5
  repeated = np.mean([shuffled(8 * epoch)[1] == shuffled(8 * epoch + 8)[1] for epoch in range(4000)])
  assert abs(repeated - 1 / 8) < 0.03


def test_evaluation_geometry_without_crop_scale():
  source = pictures()
  recipe = dataclasses.replace(RECIPE, crop_scale=None, flip=False)
  for batch in take(train_batches([source], SPEC, VIEW, recipe, 0)(0), 3):
    for image, id in zip(batch["image"], batch["id"], strict=True):
      np.testing.assert_array_equal(image, image_ops.to_input(source.clips[source.ids.index(id)], SPEC, VIEW))


def test_half_are_flipped():
  source = MemorySource([photo(24, 24)], ids=["a"])
  recipe = Recipe(steps=1, batch_size=200, crop_scale=None)
  [batch] = take(train_batches([source], SPEC, ASIS, recipe, 0)(0), 1)
  plain, flipped = source.clips[0][0], source.clips[0][0, :, ::-1]
  n_flipped = sum(np.array_equal(image, flipped) for image in batch["image"])
  assert n_flipped + sum(np.array_equal(image, plain) for image in batch["image"]) == 200
  assert 65 < n_flipped < 135


def test_a_mixture_draws_a_source_for_each_example_and_epoch():
  ids = [f"{i:03d}" for i in range(60)]
  sources = [MemorySource([np.full((1, 8, 8, 3), value, np.uint8)] * 60, ids) for value in (10, 20, 30)]
  spec, recipe = InputSpec((8, 8), None), dataclasses.replace(RECIPE, batch_size=60)
  first, second = take(train_batches(sources, spec, VIEW, recipe, 0)(0), 2)
  counts = np.bincount(first["image"][:, 0, 0, 0] // 10, minlength=4)[1:]
  assert counts.sum() == 60
  assert counts.min() > 8
  drawn = [dict(zip(b["id"].tolist(), b["image"][:, 0, 0, 0].tolist(), strict=True)) for b in (first, second)]
  assert drawn[0] != drawn[1]


def test_a_mixture_is_cut_as_its_sources_alone():
  """So that models finetuned on one point and on many saw the same crops."""
  alone = take(train_batches([pictures()], SPEC, VIEW, RECIPE, 0)(0), 3)
  mixed = take(train_batches([pictures(), pictures()], SPEC, VIEW, RECIPE, 0)(0), 3)
  assert_same(alone, mixed)


def test_a_mixture_needs_the_same_ids():
  with pytest.raises(DataError, match="source 1 has 10, the first 11, and they differ from example 10 on"):
    train_batches([pictures(11), pictures(10)], SPEC, VIEW, RECIPE, 0)


def test_a_mixture_of_sources_that_lost_different_pictures_draws_those_that_all_have():
  ids, spec = [f"{i:03d}" for i in range(30)], InputSpec((8, 8), None)
  recipe = dataclasses.replace(RECIPE, batch_size=26, crop_scale=None, flip=False)
  sources = []
  for value, lost in ((100, {3, 4}), (200, {4, 20, 29})):
    kept = [i for i in range(30) if i not in lost]
    clips = [np.full((1, 8, 8, 3), value + i, np.uint8) for i in kept]
    sources.append(MemorySource(clips, [ids[i] for i in kept]))
  with pytest.raises(DataError, match="source 1 has 27, the first 28, and they differ from example 3 on"):
    train_batches(sources, spec, VIEW, recipe, 0)
  [batch] = take(train_batches(sources, spec, VIEW, recipe, 0, on_bad="skip")(0), 1)
  assert sorted(batch["id"]) == [id for id in ids if id not in ("003", "004", "020", "029")]
  assert [int(pixel) % 100 for pixel in batch["image"][:, 0, 0, 0]] == [int(id) for id in batch["id"]]
  strangers = [sources[0], MemorySource(sources[0].clips, [f"other/{id}" for id in sources[0].ids])]
  with pytest.raises(DataError, match="2 sources of a mixture have no id in common"):
    train_batches(strangers, spec, VIEW, recipe, 0, on_bad="skip")


def test_unreadable_pictures_give_way_in_training():
  source = pictures(bad=(2, 3))
  batches = train_batches([source], SPEC, VIEW, RECIPE, 0, on_bad="skip")
  made = take(batches(0), 11)
  assert all(batch["mask"].all() for batch in made)
  assert sum(batch["skipped"].sum() for batch in made) == 8  # two in each of four epochs
  assert not {source.ids[2], source.ids[3]} & set(ids_of(made))
  assert_same(made[5:], take(batches(5), 6))
  with pytest.raises(DataError, match="truncated"):
    take(train_batches([source], SPEC, VIEW, RECIPE, 0)(0), 11)
  with pytest.raises(DataError, match="none of 2 pictures can be read"):
    take(train_batches([pictures(2, bad=(0, 1))], SPEC, VIEW, RECIPE, 0, on_bad="skip")(0), 1)


# ------------------------------------------------------------------------------- running ahead, and ending


@pytest.mark.parametrize("ended", ["exhausted", "closed", "dropped", "failed"])
def test_no_thread_outlives_its_batches(ended):
  batches = eval_batches(pictures(40, bad=(30,) if ended == "failed" else ()), SPEC, VIEW, 2, n_threads=3)
  next(batches)
  assert any(thread.name.startswith("pipeline") for thread in threading.enumerate())
  if ended == "exhausted":
    list(batches)
  elif ended == "failed":
    with pytest.raises(DataError):
      list(batches)
  elif ended == "closed":
    batches.close()
  del batches
  assert not any(thread.name.startswith("pipeline") for thread in threading.enumerate())


@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_runs_while_the_model_does(backend):
  source = MemorySource([photo(24, 24)] * 40)
  batches = eval_batches(source, SPEC, VIEW, 4, backend=backend, n_threads=2)
  next(batches)
  deadline = time.monotonic() + 30
  while len(source.reads) < 4 * pipeline.AHEAD:  # nobody asks for a batch meanwhile
    assert time.monotonic() < deadline
    time.sleep(0.001)
  batches.close()


def test_reading_ahead_is_bounded():
  source = MemorySource([photo(24, 24)] * 400)
  batches = train_batches([source], SPEC, VIEW, RECIPE, 0, n_threads=2)(0)
  for n in range(1, 20):
    next(batches)
    time.sleep(0.002)
    assert len(source.reads) <= 4 * (n + pipeline.AHEAD + 1)
  batches.close()


def test_memory_does_not_grow_with_the_source():
  class Endless(MemorySource):
    def __len__(self):
      return self.n

    def id(self, index):
      return str(index)

    def picture(self, index):
      return Picture(np.zeros((1, 24, 24, 3), np.uint8), 100)

    def target(self, index):
      return {"label": np.int32(0)}

  peaks = []
  for n in (200, 4000):
    source = Endless([])
    source.n = n
    tracemalloc.start()
    for batch in eval_batches(source, SPEC, ASIS, 8, n_threads=2):
      assert batch["n_bytes"].max() == 100
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.1 * peaks[0] + 50_000


# ---------------------------------------------------------------------------------------------- misuse


def test_what_is_wrong_is_said():
  with pytest.raises(SpecError, match=r"did you mean 'tf\.data'"):
    eval_batches(pictures(), SPEC, VIEW, 4, backend="tfdata")
  with pytest.raises(SpecError, match="no policy on_bad 'ignore'"):
    eval_batches(pictures(), SPEC, VIEW, 4, on_bad="ignore")
  with pytest.raises(SpecError, match="batch_size 4 cannot be split over 3 hosts"):
    train_batches([pictures()], SPEC, VIEW, RECIPE, 0, n_hosts=3)
