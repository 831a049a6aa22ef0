"""Learned codecs against JPEG at equal bytes, on pictures of which the learned one is known to fail."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from fakes import DARK, Fallible, photo
from PIL import Image
from test_study import altered, tiny_config

from robust_compress import equal_bytes, failures, measuring, settings, study
from robust_compress.codecs import load_codec
from robust_compress.inspect import quality
from robust_compress.report import failures as section
from robust_compress.report.against_jpeg import Comparison, folder_of, load_comparison, save_comparison
from robust_compress.report.examples import load_examples
from robust_compress.types import DataError, InputSpec, StoreError, Weights

JPEG = load_codec("jpeg")


def answers(image):
  """A model that costs nothing: uint8[b 96 96 3] to logits[b 10], by colours at 16 places, which tell it nothing."""
  colours = image.reshape(-1, 4, 24, 4, 24, 3).mean((2, 4)).reshape(len(image), -1)
  return colours @ np.random.default_rng(0).normal(size=(48, 10))


answers.input = InputSpec((96, 96), None)


def config(**changes):
  """Scenes large enough that JPEG's header is not all there is to them."""
  data = {"test_data": "scenes(size=96,n=14,input=asis):test", "train_data": "scenes(size=96,n=8,input=asis):train"}
  same = {"models": ("test_failures:answers",), "base_recipe": settings.recipe_config(), "protocols": ("shifted",)}
  return tiny_config(**{**data, **same, "points": ("fakes:Fallible@60",), "finetune_points": ()} | changes)


def measured(workdir, **changes):
  opened = study.Study(config(**changes), workdir)
  opened.compress()
  opened.evaluate()
  return opened


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """With a level at which no JPEG is as small."""
  points = ("jpeg@30", "fakes:Fallible@1", "fakes:Fallible@60")
  opened = measured(tmp_path_factory.mktemp("study"), points=points, protocols=("shifted", "relative"))
  opened.report()
  return opened


def comparisons(opened) -> dict[str, Comparison]:
  found = [(str(cell.test), load_comparison(opened.workdir / "failures", cell)) for cell in opened.cells]
  return {point: one for point, one in found if one is not None}


def test_base_weights_at_learned_points_are_compared_once_under_labels(finished):
  asked = [cell for cell in finished.cells if load_comparison(finished.workdir / "failures", cell) is not None]
  assert sorted(str(cell.test) for cell in asked) == ["fakes:Fallible@1", "fakes:Fallible@60"]
  assert {cell.target for cell in asked} == {"labels"}
  assert len(list((finished.workdir / "failures").iterdir())) == 2


def test_finetuned_weights_are_not_compared(finished):
  [cell] = [cell for cell in finished.cells if str(cell.test) == "fakes:Fallible@60" and cell.target == "labels"]
  tuned = dataclasses.replace(cell, weights=Weights(init=cell.weights, points=(cell.test,), recipe="epochs=1"))
  wanted = failures.Failures(measuring.Measuring(finished.bench, finished.store), finished.coding)
  assert wanted.missing([tuned, cell]) == []


def test_bytes_levels_and_psnr_are_those_of_the_pictures(finished):
  one = comparisons(finished)["fakes:Fallible@60"]
  source = finished.bench.pictures.source(one.cell.data)
  codec, columns = Fallible(), one.columns
  assert sorted(columns["id"]) == columns["id"].tolist() == sorted(source.id(i) for i in range(14))
  for index in range(14):
    clip = source.picture(index).clip
    i = columns["id"].tolist().index(source.id(index))
    [learned] = codec.encode([clip], [60], reconstruct=True)
    [jpeg] = JPEG.encode([clip], [columns["level_jpeg"][i]])
    sizes = [len(JPEG.encode([clip], [q])[0].blob) for q in range(1, 101)]
    assert (columns["n_bytes"][i], columns["n_bytes_jpeg"][i]) == (len(learned.blob), len(jpeg.blob))
    assert abs(len(jpeg.blob) - len(learned.blob)) == min(abs(size - len(learned.blob)) for size in sizes)
    assert columns["psnr"][i] == quality.psnr(clip, learned.pixels)
    assert columns["psnr_jpeg"][i] == quality.psnr(clip, JPEG.decode([jpeg.blob])[0])


def test_what_the_model_says_is_what_the_rows_hold(finished):
  one = comparisons(finished)["fakes:Fallible@60"]
  ids, records = finished.store.records(one.cell)
  assert ids == one.columns["id"].tolist()
  assert one.columns["right"].tolist() == records["correct1"].astype(bool).tolist()


def test_pictures_that_jpeg_cannot_make_as_small_are_left_out(finished):
  small, large = comparisons(finished)["fakes:Fallible@1"], comparisons(finished)["fakes:Fallible@60"]
  assert not small.equal.any()
  assert (small.columns["level_jpeg"] == 1).all()
  assert small.worst(9) == []
  assert large.equal.sum() >= 10
  assert 0 < large.beaten.sum() < large.equal.sum()


def test_dark_pictures_are_the_failures_and_the_worst_are_kept(finished):
  one = comparisons(finished)["fakes:Fallible@60"]
  source = finished.bench.pictures.source(one.cell.data)
  dark = {source.id(i) for i in range(14) if source.picture(i).clip.mean() <= DARK}
  assert {str(id) for id in one.columns["id"][one.beaten]} == dark & set(one.columns["id"][one.equal].tolist())
  shown = load_examples(folder_of(finished.workdir / "failures", one.cell), one.cell.data)
  worst = one.worst(finished.config.n_examples)
  assert [entry["id"] for entry in shown] == one.columns["id"][worst].tolist()
  for entry, index in zip(shown, worst):
    learned, jpeg = entry["decoded"]
    assert (learned["point"], jpeg["point"]) == ("fakes:Fallible@60", f"jpeg@{one.columns['level_jpeg'][index]:g}")
    assert (learned["n_bytes"], jpeg["psnr"]) == (one.columns["n_bytes"][index], one.columns["psnr_jpeg"][index])
    assert {entry["label"], entry["prediction"], learned["prediction"], jpeg["prediction"]} <= set(source.classes)
    assert (learned["prediction"] == entry["label"]) == one.columns["right"][index]
    np.testing.assert_array_equal(
      Image.open(entry["original"]), source.picture(int(index_of(source, entry["id"]))).clip[0]
    )


def index_of(source, id):
  return next(i for i in range(len(source)) if source.id(i) == id)


def test_the_report_shows_them_and_needs_nothing_else(finished):
  page = (finished.workdir / "report" / "report.html").read_text()
  one = comparisons(finished)["fakes:Fallible@60"]
  assert "Where JPEG does better at equal bytes" in page
  assert f"on {one.beaten.sum()} of {one.equal.sum()} pictures" in page
  assert f"the worst 2 of {len(one.worst(14))}" in page


def test_what_is_there_is_not_done_again_and_what_was_cut_off_is_finished(finished):
  files = [
    path for folder in ("failures", "coded") for path in (finished.workdir / folder).rglob("*") if path.is_file()
  ]
  before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
  study.Study(finished.config, finished.workdir).evaluate()
  assert {path: path.stat().st_mtime_ns for path in files} == {path: when for path, (when, _) in before.items()}
  cut = folder_of(finished.workdir / "failures", comparisons(finished)["fakes:Fallible@60"].cell) / "pictures.json"
  cut.unlink()
  study.Study(finished.config, finished.workdir).evaluate()
  assert cut.read_bytes() == before[cut][1]


def test_other_conditions_are_shown_not_mixed(tmp_path):
  opened = measured(tmp_path)
  [file] = tmp_path.glob("failures/*/pictures.json")
  whole = file.read_bytes()
  altered(file, lambda fields: fields["fingerprint"].update({"equal bytes": "of yesterday"}))
  with pytest.raises(StoreError, match=r"equal bytes of yesterday there, jpeg.* now; give --replace"):
    study.Study(opened.config, tmp_path).evaluate()
  study.Study(opened.config, tmp_path, replace=True).evaluate()
  assert file.read_bytes() == whole
  altered(file, lambda fields: fields["fingerprint"].update(codec="of yesterday"))
  assert "at equal bytes" not in opened.report().read_text()  # not of the row that stands


def test_a_study_without_learned_codecs_has_nothing_to_compare(tmp_path):
  opened = measured(tmp_path, points=("jpeg@30", "webp@20"))
  assert not (tmp_path / "failures").exists()
  assert len(list((tmp_path / "coded").iterdir())) == 2
  assert "at equal bytes" not in opened.report().read_text()


def test_of_a_large_set_a_sample_by_ids(tmp_path, monkeypatch):
  monkeypatch.setattr(equal_bytes, "SAMPLE", 5)
  opened = measured(tmp_path)
  [one] = comparisons(opened).values()
  assert (len(one), one.n_test) == (5, 14)
  assert "A sample of 5 of 14 pictures" in opened.report().read_text()
  chosen = set(one.columns["id"].tolist())
  source = opened.bench.pictures.source(one.cell.data)
  fewer = equal_bytes.sample([source.id(i) for i in range(14) if source.id(i) != min(chosen)])
  assert len(chosen & set(fewer)) == 4, "one picture less is one less of the sample"


def test_without_labels_right_is_what_the_model_says_of_the_original(tmp_path):
  data = {"test_data": "test_study:Unlabelled(size=96,n=9,input=asis):test", "train_data": ""}
  opened = measured(tmp_path, **data, protocols=("relative",))
  [one] = comparisons(opened).values()
  ids, records = opened.store.records(one.cell)
  assert (one.cell.target, ids) == ("self", one.columns["id"].tolist())
  assert one.columns["right"].tolist() == records["correct1"].astype(bool).tolist()
  assert "what the same model says of the original" in opened.report().read_text()


def test_pictures_that_cannot_be_read_are_left_out(tmp_path):
  folder = tmp_path / "pictures" / "class"
  folder.mkdir(parents=True)
  for i in range(6):
    Image.fromarray(photo(96, 96, seed=i)[0]).save(folder / f"{i}.png")
  (folder / "2.png").write_bytes(b"nothing")
  data = {"test_data": "folders(path=pictures,input=asis):all", "train_data": "folders(path=pictures,input=asis):all"}
  opened = measured(tmp_path / "work", **data, data_dir=str(tmp_path), on_bad="skip")
  [one] = comparisons(opened).values()
  assert one.columns["id"].tolist() == [f"class/{i}.png" for i in (0, 1, 3, 4, 5)]


def test_coded_pictures_that_are_gone_are_no_error(tmp_path, caplog):
  opened = measured(tmp_path)
  for manifest in tmp_path.glob("coded/*/manifest.json"):
    manifest.unlink()
  [file] = tmp_path.glob("failures/*/pictures.json")
  file.unlink()
  study.Study(opened.config, tmp_path).evaluate()
  assert not file.exists()
  assert "coded pictures are gone" in (tmp_path / "log.txt").read_text()


# ----------------------------------------------------------------------------------------- what is kept


def invented(finished, **columns) -> Comparison:
  cell = next(cell for cell in finished.cells if str(cell.test) == "fakes:Fallible@60")
  fields = {"id": np.array(["a", "b", "c", "d"]), "n_pixels": np.full(4, 9216), "n_bytes": np.full(4, 1000)}
  fields |= {"n_bytes_jpeg": np.array([1000, 1040, 960, 1200]), "level_jpeg": np.arange(4.0)}
  fields |= {"psnr": np.array([30.0, 40, np.inf, 20]), "psnr_jpeg": np.array([33.0, 30, np.inf, 40])}
  return Comparison(cell, {"codec": "1"}, 9, fields | columns)


def test_failures_are_those_of_equal_bytes_lost_answers_first(finished):
  answers = {"right": np.array([True, False, True, False]), "right_jpeg": np.array([True, True, False, True])}
  one = invented(finished, **answers)
  assert one.equal.tolist() == [True, True, True, False]
  assert one.difference.tolist() == [-3, 10, 0, -20]
  assert one.beaten.tolist() == [True, False, False, False]
  assert one.worst(9) == [1, 0], "first where only JPEG keeps the answer, whatever its PSNR"
  assert (one.mcnemar().n01, one.mcnemar().n10) == (1, 1)
  assert invented(finished).worst(9) == [0], "a task without right and wrong has PSNR alone"


def test_a_few_pictures_do_not_make_the_setting_that_is_told(finished):
  def one(n, n_beaten):
    columns = {"n_bytes": np.full(n, 1000), "n_bytes_jpeg": np.full(n, 1000), "n_pixels": np.full(n, 9216)}
    psnr_jpeg = np.where(np.arange(n) < n_beaten, 31.0, 29.0)
    columns |= {"id": np.array([str(i) for i in range(n)]), "level_jpeg": np.arange(float(n))}
    return invented(finished, **columns, psnr=np.full(n, 30.0), psnr_jpeg=psnr_jpeg)

  def told(*pairs):
    return section.summary(section.Group("", Weights(), "", None, [(None, one(*pair)) for pair in pairs]))

  assert "on 200 of 300 pictures" in told((1, 1), (300, 200), (400, 100))
  assert "where it is ahead most often" in told((1, 1), (300, 200))
  assert "on 2 of 9 pictures" in told((1, 1), (9, 2)), "nowhere enough: where most are compared"
  assert "on none of the pictures compared" in told((1, 0), (300, 0))


def test_comparisons_round_trip_and_damage_is_told(finished, tmp_path):
  one = invented(finished, right=np.array([True, False, True, True]), right_jpeg=np.zeros(4, bool))
  save_comparison(tmp_path, one)
  back = load_comparison(tmp_path, one.cell)
  assert (back.fingerprint, back.n_test) == (one.fingerprint, one.n_test)
  for name, values in one.columns.items():
    assert back.columns[name].dtype == values.dtype or name == "id"
    np.testing.assert_array_equal(back.columns[name], values)
  path = folder_of(tmp_path, one.cell) / "pictures.json"
  fields = json.loads(path.read_text())
  for damaged in ({**fields, "columns": {**fields["columns"], "psnr": [1.0]}}, {"columns": 3}, [], {}):
    path.write_text(json.dumps(damaged))
    with pytest.raises(DataError, match="no comparison with JPEG"):
      load_comparison(tmp_path, one.cell)


def test_of_a_large_picture_the_place_where_jpeg_is_most_ahead_is_shown():
  original = np.full((300, 700, 3), 128, np.uint8)
  learned, jpeg = original.copy(), original.copy()
  learned[280:, 600:620] = 0
  jpeg[:60, :60] = 0
  rows, columns = failures.window(original, learned, jpeg)
  assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)
  assert rows.stop == 300
  assert columns.start <= 600 <= 620 <= columns.stop
  assert failures.window(original[:100, :80], learned[:100, :80], jpeg[:100, :80]) == (slice(0, 100), slice(0, 80))
