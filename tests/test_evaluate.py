import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from tiny_model import MODEL

from robust_compress import evaluate as evaluation
from robust_compress import parallel
from robust_compress.evaluate import evaluate
from robust_compress.tasks.classification import Classification
from robust_compress.types import NONE, Cell, DataError, Weights

TASK = Classification()
N = 23
DATA = {**tiny_model.pictures(N), "n_bytes": np.arange(100, 100 + N)}


@pytest.fixture(scope="module")
def predictor():
  return evaluation.Predictor(MODEL, TASK)


@pytest.fixture(scope="module")
def predict(predictor):
  return predictor.bind(tiny_model.variables())


def batches(size, data=DATA, rows=None):
  """Batches of one size; the last is padded with repetitions of its first row."""
  n = len(data["label"])
  rows = np.arange(n) if rows is None else rows
  for start in range(0, len(rows), size):
    some = rows[start : start + size]
    padded = np.concatenate([some, np.repeat(some[:1], size - len(some))])
    yield {**{name: value[padded] for name, value in data.items()}, "mask": np.arange(size) < len(some)}


def assert_same(a, b):
  assert a.ids == b.ids
  jax.tree.map(np.testing.assert_array_equal, a.records, b.records)
  jax.tree.map(np.testing.assert_array_equal, a.predictions, b.predictions)
  np.testing.assert_array_equal(a.n_bytes, b.n_bytes)
  np.testing.assert_array_equal(a.n_pixels, b.n_pixels)


def test_predictions_are_those_of_the_bare_model(predictor):
  logits, _ = MODEL.apply(tiny_model.variables(), {"image": jnp.asarray(DATA["image"])})
  found = predictor(tiny_model.variables(), DATA)  # 23 rows on two devices
  np.testing.assert_array_equal(found["top1"], np.argmax(logits, 1))
  assert found["top5"].shape == (N, 5)


def test_result_does_not_depend_on_batches_order_or_devices(predict):
  whole = evaluate(predict, TASK, batches(N), keep_predictions=True)
  assert whole.ids == tuple(sorted(DATA["id"]))
  one_device = evaluation.Predictor(MODEL, TASK, parallel.mesh(jax.devices()[:1])).bind(tiny_model.variables())
  shuffled = np.random.default_rng(0).permutation(N)
  assert_same(whole, evaluate(predict, TASK, batches(4), keep_predictions=True))
  assert_same(whole, evaluate(one_device, TASK, batches(5, rows=shuffled), keep_predictions=True))


def test_hosts_merge_to_the_whole(predict):
  halves = [evaluate(predict, TASK, batches(4, rows=np.arange(host, N, 2))) for host in (0, 1)]
  assert_same(evaluation.merge(halves), evaluate(predict, TASK, batches(4)))


def test_host_parts_travel_as_files(predict, tmp_path):
  whole = evaluate(predict, TASK, batches(8), {"labels": None}, keep_predictions=True)
  evaluation._write(whole, tmp_path / "part.npz")
  assert_same(evaluation._read(tmp_path / "part.npz", whole), whole)


def test_one_compilation_serves_all_weights():
  """The model is traced once, whatever the weights."""
  traced = []

  class Counting(Classification):
    def predict(self, outputs, batch):
      traced.append(outputs.shape)
      return super().predict(outputs, batch)

  predictor = evaluation.Predictor(MODEL, Counting())
  found = [evaluate(predictor.bind(tiny_model.variables(seed)), TASK, batches(8)) for seed in (0, 1)]
  assert len(traced) == 1
  assert (found[0].records["labels"]["correct1"] != found[1].records["labels"]["correct1"]).any()


def test_one_pass_serves_several_targets(predict, predictor):
  original = evaluate(predict, TASK, batches(8), keep_predictions=True)
  darker = {**DATA, "image": DATA["image"] // 4}
  both = evaluate(predict, TASK, batches(4, darker), {"labels": None, "self": original.as_self()})
  found = predictor(tiny_model.variables(), darker)["top1"]
  np.testing.assert_array_equal(both.records["labels"]["correct1"], found == DATA["label"])
  own = predictor(tiny_model.variables(), DATA)["top1"]
  np.testing.assert_array_equal(both.records["self"]["correct1"], found == own)
  assert both.predictions is None
  with pytest.raises(ValueError, match="keep_predictions=True"):
    both.as_self()


def test_options_of_a_target_reach_the_task(predict):
  class Options(Classification):
    def as_targets(self, predictions, score=0.0):
      return {"label": predictions["top1"] * 0 + int(10 * score)}

  original = evaluate(predict, TASK, batches(8), keep_predictions=True).as_self()
  result = evaluate(predict, Options(), batches(8), {"self(score=0.5)": original})
  expected = [row[0] == 5 for row in original[1]["top5"]]
  np.testing.assert_array_equal(result.records["self(score=0.5)"]["correct1"], expected)


def test_a_picture_without_its_original_is_an_error(predict):
  original = evaluate(predict, TASK, batches(8, rows=np.arange(1, N)), keep_predictions=True)
  with pytest.raises(DataError, match="1 pictures have no prediction on the original, the first is 'picture000'"):
    evaluate(predict, TASK, batches(8), {"self": original.as_self()})


def test_any_callable_predicts(predict):
  def network(image):  # of another framework: numpy in, numpy out
    assert image.dtype == np.uint8
    logits, _ = MODEL.apply(tiny_model.variables(), {"image": jnp.asarray(image)})
    return np.asarray(logits)

  assert_same(evaluate(evaluation.foreign(network, TASK), TASK, batches(8)), evaluate(predict, TASK, batches(8)))


@pytest.mark.parametrize(("backend", "limit"), [("gpu", 2), ("cpu", 1)])
def test_the_host_scores_a_batch_while_the_next_one_runs(backend, limit, monkeypatch):
  monkeypatch.setattr(evaluation.jax, "default_backend", lambda: backend)
  events = []

  class Scoring(Classification):
    def statistics(self, predictions, targets):
      events.append("score")
      return super().statistics(predictions, targets)

  def predict(batch):
    events.append("predict")
    n = len(batch["image"])
    return {"top1": np.zeros(n, np.int32), "top5": np.zeros((n, 5), np.int32)}

  evaluate(predict, Scoring(), batches(6))
  n = events.count("predict")
  assert events == ["predict"] * (limit - 1) + ["predict", "score"] * (n - limit + 1) + ["score"] * (limit - 1)
  ahead = [events[:i].count("predict") - events[:i].count("score") for i in range(len(events) + 1)]
  assert max(ahead) == limit


def test_skipped_pictures_are_counted_and_left_out(predict):
  skipped = np.arange(N) % 7 == 0

  def with_skips():
    for batch in batches(8):
      bad = np.isin(batch["id"], DATA["id"][skipped]) & batch["mask"]
      yield {**batch, "mask": batch["mask"] & ~bad, "skipped": bad}

  result = evaluate(predict, TASK, with_skips())
  assert result.n_skipped == skipped.sum()
  assert result.ids == tuple(DATA["id"][~skipped])


@pytest.mark.parametrize("n_skipped", [0, 8])
def test_nothing_to_evaluate(predict, n_skipped):
  batch = next(batches(8))
  unreadable = [{**batch, "mask": np.zeros(8, bool), "skipped": np.ones(8, bool)}]
  with pytest.raises(DataError, match="8 pictures were unreadable" if n_skipped else "holds no picture"):
    evaluate(predict, TASK, unreadable if n_skipped else [])


def test_row(predict):
  result = evaluate(predict, TASK, batches(8))
  cell = Cell("classification", "tiny", Weights("random"), "pictures:all", NONE)
  row, replicates = evaluation.row(cell, result, TASK, fingerprint={"metric": "1"}, n_replicates=50)
  assert row.n == N
  assert row.metrics["top1"] == result.records["labels"]["correct1"].mean()
  assert row.intervals["top1"][0] <= row.metrics["top1"] <= row.intervals["top1"][1]
  assert replicates["top5"].shape == (50,)
  assert (row.n_bytes, row.n_pixels) == (DATA["n_bytes"].sum(), N * 16 * 16)
  assert row.bpp == row.bpp_mean == pytest.approx(8 * DATA["n_bytes"].mean() / 256)  # all pictures are of one size
  assert row.fingerprint == {"metric": "1"}


def test_the_rate_is_unknown_where_bytes_are(predict):
  data = {**DATA, "n_bytes": np.where(np.arange(N) == 3, -1, DATA["n_bytes"])}
  result = evaluate(predict, TASK, batches(8, data))
  row, _ = evaluation.row(Cell("classification", "tiny", Weights(), "pictures:all", NONE), result, TASK, fingerprint={})
  assert (result.bpps, row.n_bytes, row.bpp, row.bpp_mean) == (None, None, None, None)


def test_progress_is_shown_when_asked(predict, capsys):
  evaluate(predict, TASK, batches(8), progress="tiny at none", n_examples=N)
  assert f"{N}/{N}" in capsys.readouterr().err
  evaluate(predict, TASK, batches(8))
  assert capsys.readouterr().err == ""
