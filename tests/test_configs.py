"""Every config file: it loads, is locked, plans without its data, and its docstring tells the truth."""

from __future__ import annotations

import collections
import importlib.util
import pathlib
import re
import runpy

import pytest
from PIL import Image

from robust_compress import optim, protocols, settings, specs, study
from robust_compress.data import catalogue
from robust_compress.models import MODELS
from robust_compress.models.weights import SHIPPED
from robust_compress.report import published
from robust_compress.types import Cell, SpecError, WeightsError

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def docstring(path):
  return runpy.run_path(str(path))["__doc__"]


def planned(path, tmp_path, *overrides):
  """The study of a config on a machine without its data: files of weights are there, but of any content."""
  config = settings.load_config(str(path), [*overrides, f"--config.data_dir={tmp_path / 'data'}"])
  for model in config.models:
    given = dict(specs.parse_call(model)[1])
    file = given.get("weights", given.get("start"))
    if file and not (SHIPPED / file).is_file():
      weights = tmp_path / "data" / file
      weights.parent.mkdir(parents=True, exist_ok=True)
      weights.write_bytes(b"any")
  return study.Study(config, tmp_path / "workdir")


def roles(opened):
  return collections.Counter(protocols.role(cell) for cell in opened.cells)


def named(number, text):
  return re.search(rf"\b{number}\b", text.replace(",", ""))


# -------------------------------------------------------------------------------------------- all of them


@each_config
def test_loads_locked(path):
  config = settings.load_config(str(path))
  assert config.is_locked
  assert config.recipe.is_locked
  assert config.title


@each_config
@pytest.mark.parametrize(("typo", "meant"), [("modles=x", "models"), ("recipe.learning_rat=1", "learning_rate")])
def test_a_typo_is_told_with_the_nearest_key(path, typo, meant):
  with pytest.raises(SpecError, match=meant):
    settings.load_config(str(path), [f"--config.{typo}"])


@each_config
def test_plans_without_data_and_leaves_nothing_behind(path, tmp_path):
  text = planned(path, tmp_path).plan()
  for line in ("cells, 0 done", "to code", "to train", "to evaluate", "disk"):
    assert line in text
  assert not (tmp_path / "workdir" / "rows").exists()


@each_config
def test_length_of_training_is_one_override(path, tmp_path):
  opened = planned(path, tmp_path, "--config.recipe.steps=7")
  trained = {cell.weights for cell in opened.cells if not protocols.is_base(cell.weights)}
  assert {specs.parse_recipe(weights.recipe).steps for weights in trained} <= {7}


@each_config
def test_docstring_has_the_command(path):
  assert f"robust-compress run --config=configs/{path.name}" in re.sub(" +", " ", docstring(path))


@each_config
def test_what_the_docstring_writes_can_be_typed(path):
  """Every FILE[:arg] loads, and every key it overrides is there."""
  text = docstring(path)
  for file, arg in re.findall(r"--config=(configs/\w+\.py)(:[^\s…]+)?", text):
    config = settings.load_config(f"{ROOT / file}{arg}")
    for key in re.findall(r"--config\.([\w.]+)=", text):
      *outer, last = key.split(".")
      for name in outer:
        config = config[name]
      assert last in config, f"{path.name} speaks of --config.{key}"
      config = settings.load_config(f"{ROOT / file}{arg}")


def sweeps():
  return [path for path in CONFIGS if "sweep" in runpy.run_path(str(path))]


@pytest.mark.parametrize("path", sweeps(), ids=lambda path: path.stem)
def test_sweeps_are_of_keys_that_exist(path, tmp_path):
  spec = importlib.util.spec_from_file_location("sweep", ROOT / "launch" / "sweep.py")
  sweep = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sweep)
  assert len(sweep.plan(str(path), tmp_path, [])) > 1
  assert "launch/sweep.py" in docstring(path)


# ------------------------------------------------------------------------------------------------ Janeiro


JANEIRO = ROOT / "configs" / "janeiro2023_classification.py"


def test_janeiro_plans_its_scenarios(tmp_path):
  opened = planned(JANEIRO, tmp_path)
  assert roles(opened) == {"A": 1, "B": 11, "C": 11, "control": 12}
  assert sorted({cell.test.bpp for cell in opened.cells} - {None}) == [
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.8,
    1,
    1.25,
    1.5,
    2,
  ]
  text = opened.plan()
  assert "to train     450,408 steps for 12 weights" in text
  assert "to evaluate  1,750,000 pictures in 35 passes" in text


def test_janeiro_finetunes_the_published_weights_alike(tmp_path):
  """C and the control differ in the pictures and in nothing else: same start, same recipe, same data."""
  opened = planned(JANEIRO, tmp_path)
  [base] = {cell.weights for cell in opened.cells if protocols.role(cell) == "A"}
  assert base.source == "timm:swin_tiny_patch4_window7_224.ms_in1k"
  trained = {cell.weights for cell in opened.cells if cell.weights != base}
  assert len(trained) == 12
  assert {(w.init, w.data, w.seed) for w in trained} == {(base, "imagenet2012:train", 0)}
  [recipe] = {w.recipe for w in trained}
  steps = optim.n_steps(specs.parse_recipe(recipe), catalogue.TFDS["imagenet2012"][0]["train"])
  assert steps == 30 * 1_281_167 // 1024 == 37_534


def test_janeiro_codecs_share_the_baseline_and_the_control(tmp_path):
  opened = planned(f"{JANEIRO}:codecs=webp+jpeg", tmp_path)
  assert roles(opened) == {"A": 1, "B": 22, "C": 22, "control": 23}
  assert {cell.test.codec for cell in opened.cells} == {"none", "webp", "jpeg"}
  assert "for 23 weights" in opened.plan()


def test_janeiro_docstring_counts_right(tmp_path):
  text, opened = docstring(JANEIRO), planned(JANEIRO, tmp_path)
  model = opened.bench.models["swin_tiny_patch4_window7_224.ms_in1k"]
  assert named(11, text)
  assert named(model.input.resize, text)
  assert "30 epochs" in text
  assert named(37500, text)
  assert "1024 pictures" in text


@pytest.mark.parametrize(
  ("arg", "text"),
  [
    ("codecs=", "codec"),
    ("codecs=wbp", "did you mean 'webp'"),
    ("codec=webp", "expected codecs="),
    ("webp", "codecs="),
  ],
)
def test_janeiro_with_a_wrong_argument(tmp_path, arg, text):
  with pytest.raises(SpecError, match=text):
    planned(f"{JANEIRO}:{arg}", tmp_path).cells  # noqa: B018


@pytest.mark.parametrize(
  ("name", "steps", "line"),
  [
    ("detection", 12 * 118_287 // 16, "to evaluate  670,000 pictures in 134 passes"),
    ("segmentation", 160_000, "to train     7,200,000 steps for 45 weights"),
  ],
)
def test_janeiro_plans_dense_tasks_over_the_paper_s_codecs(tmp_path, name, steps, line):
  path = ROOT / "configs" / f"janeiro2023_{name}.py"
  opened, text = planned(path, tmp_path), docstring(path)
  assert roles(opened) == {"A": 1, "B": 44, "C": 44, "control": 45}
  assert {cell.test.codec for cell in opened.cells} == {"none", "bpg", "webp", "mbt2018", "cheng2020-attn"}
  assert line in opened.plan()
  [recipe] = {cell.weights.recipe for cell in opened.cells if cell.weights.recipe}
  assert optim.n_steps(specs.parse_recipe(recipe), 118_287) == steps
  assert named(steps, text)
  assert named(45, text)
  assert "Not run by us yet" in " ".join(text.split())
  assert roles(planned(f"{path}:codecs=jpeg", tmp_path)) == {"A": 1, "B": 11, "C": 11, "control": 12}


def test_janeiro_follows_the_schedules_of_the_published_weights():
  """MMDetection's and MMSegmentation's, step by step: 500 and 1,500 of warm-up, then two drops, or a line to 0."""
  recipes = {}
  for name in ("detection", "segmentation"):
    config = settings.load_config(str(ROOT / "configs" / f"janeiro2023_{name}.py"))
    recipes[name] = settings.recipe_of(config.recipe)
  rate = optim.schedule(recipes["detection"], n := 88_715)
  assert [round(float(rate(step)), 7) for step in (499, 500, n * 8 // 12 - 1, n * 8 // 12 + 1, n - 1)] == [
    0.01, 0.01, 0.01, 0.001, 0.0001,
  ]  # fmt: skip
  assert float(rate(498)) < 0.01
  rate = optim.schedule(recipes["segmentation"], 160_000)
  assert [float(rate(step)) for step in (0, 1_499, 80_750, 159_999)] == pytest.approx([4e-8, 6e-5, 3e-5, 0], abs=4e-10)
  assert (recipes["segmentation"].jitter, recipes["segmentation"].crop_size) == ((0.5, 2.0), 512)
  assert recipes["detection"].crop_scale is None


# -------------------------------------------------------------------------------------------------- Reich


REICH = ROOT / "configs" / "reich2024_classification.py"


def test_reich_plans_nine_models_by_labels_and_against_themselves(tmp_path):
  opened = planned(REICH, tmp_path)
  by_model = collections.defaultdict(collections.Counter)
  for cell in opened.cells:
    by_model[cell.model][protocols.role(cell)] += 1
  assert len(by_model) == 9
  assert all(counts == {"A": 1, "B": 99, "relative": 99} for counts in by_model.values())
  assert sorted({cell.test.level for cell in opened.cells} - {None}) == list(range(1, 100))
  text = opened.plan()
  assert "to code      4,950,000 pictures at 99 points" in text  # once for all models
  assert "to train     0 steps" in text
  assert "to evaluate  45,000,000 pictures in 900 passes" in text


def test_reich_feeds_what_the_codec_saw(tmp_path):
  opened = planned(f"{REICH}:resnet50.a1_in1k", tmp_path)
  assert len(opened.cells) == 199
  [data] = {cell.data for cell in opened.cells}
  view = specs.parse_data(data).view
  assert (view.resize, view.crop, view.interpolation, view.input) == (256, 224, "bicubic", "asis")
  assert all(cell.weights.source.startswith("timm:") for cell in opened.cells)


def test_reich_with_an_unknown_model(tmp_path):
  with pytest.raises(SpecError, match=r"did you mean 'resnet50.a1_in1k'"):
    planned(f"{REICH}:resnet50.a1_in1", tmp_path)


REICH_DENSE = {
  "detection": (6, 99, "480x640", "to evaluate  3,000,000 pictures in 600 passes"),
  "segmentation": (5, 99, "crop=769", "passes"),
  "video_segmentation": (3, 52, "crop=512,frames=5,input=asis,length=8", "passes"),
}


@pytest.mark.parametrize("name", REICH_DENSE)
def test_reich_plans_dense_tasks_by_labels_and_against_themselves(tmp_path, name):
  n_models, n_points, view, line = REICH_DENSE[name]
  path = ROOT / "configs" / f"reich2024_{name}.py"
  opened = planned(path, tmp_path)
  assert len(opened.bench.models) == n_models
  assert roles(opened) == {"A": n_models, "B": n_models * n_points, "relative": n_models * n_points}
  [data] = {cell.data for cell in opened.cells}
  assert view in data
  assert f"at {n_points} points" in opened.plan()
  assert line in opened.plan()
  assert {cell.target for cell in opened.cells} - {"labels"} == {"self(score=0.5)" if name == "detection" else "self"}
  assert named(n_points, docstring(path))
  assert "Not run by us yet" in " ".join(docstring(path).split())
  given = planned(f"{path}:weights=files", tmp_path)
  n_files = sum(cell.weights.source.startswith("file:") for cell in given.cells if protocols.role(cell) == "A")
  assert n_files == (3 if name == "detection" else n_models)
  with pytest.raises(SpecError, match="expected weights=FOLDER"):
    planned(f"{path}:files", tmp_path)


REICH_TABLE_1 = {  # identifiers of table 1 that classify, detect or segment
  **{f"deeplabv3_{depth}-d8_4xb2-{n}k_cityscapes-769x769": f"deeplabv3_{depth}-d8.mmseg_cityscapes769"
     for depth, n in (("r18", 80), ("r50", 40), ("r101", 40))},
  **{f"upernet_{depth}_4xb2-40k_cityscapes-769x769": f"upernet_{depth}.mmseg_cityscapes769"
     for depth in ("r50", "r101")},
  **{name: f"{name}.coco" for name in ("detr_resnet50", "detr_resnet101", "detr_resnet101_dc5")},
  **{name: f"{name}.tv_coco" for name in (
    "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn")},
  "resnet50": "resnet50.a1_in1k",
  "resnet101": "resnet101.a1h_in1k",
  "resnet152": "resnet152.a1h_in1k",
  "vit_tiny_patch16_224": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
  "vit_small_patch16_224": "vit_small_patch16_224.augreg_in21k_ft_in1k",
  "vit_base_patch16_224": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
  "swin_tiny_patch4_window7_224": "swin_tiny_patch4_window7_224.ms_in1k",
  "swin_small_patch4_window7_224": "swin_small_patch4_window7_224.ms_in1k",
  "swin_base_patch4_window7_224": "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
}  # fmt: skip


def test_every_line_of_reich_s_table_that_is_no_flow_stands_in_a_config():
  assert len(REICH_TABLE_1) == 23 - 3
  studied = [
    name
    for part in ("classification", "detection", "segmentation")
    for name in settings.load_config(str(ROOT / "configs" / f"reich2024_{part}.py")).models
  ]
  assert sorted(studied) == sorted(REICH_TABLE_1.values())


@pytest.mark.parametrize("identifier", REICH_TABLE_1)
def test_models_of_reich_s_table_have_the_weights_of_their_identifiers(identifier):
  kind, _, file = MODELS[REICH_TABLE_1[identifier]].source.partition(":")
  if kind == "mmseg":  # the same words in another order, with a date
    assert set(re.split("[_-]", identifier)) - {"4xb2"} <= set(re.split("[_-]", file))
  elif kind == "hub":
    assert (
      file
      == {
        "detr_resnet50": "facebook/detr-resnet-50",
        "detr_resnet101": "facebook/detr-resnet-101",
        "detr_resnet101_dc5": "facebook/detr-resnet-101-dc5",
      }[identifier]
    )
  else:
    assert file.startswith(identifier)


# -------------------------------------------------------------------------------------------------- Poyser

POYSER = {"detection": (60_000, "AP50"), "segmentation": (33_000, "mIoU")}


@pytest.mark.parametrize("name", POYSER)
def test_poyser_trains_at_all_qualities_but_the_reference_point(tmp_path, name):
  n_steps, metric = POYSER[name]
  path = ROOT / "configs" / f"poyser2020_{name}.py"
  opened = planned(path, tmp_path)
  assert roles(opened) == {"A": 1, "B": 6, "C": 5}
  levels = {role: {cell.test.level for cell in opened.cells if protocols.role(cell) == role} for role in "BC"}
  assert levels == {"B": {5, 10, 15, 50, 75, 95}, "C": {5, 10, 15, 50, 75}}
  assert f"to train     {6 * n_steps:,} steps for 6 weights" in opened.plan()
  assert f"{6 * n_steps:,}" in docstring(path)
  assert "Not run by us yet" in " ".join(docstring(path).split())
  [model] = opened.bench.models
  [data] = {cell.data for cell in opened.cells}
  printed = published.published(name, model, data)
  assert len([p for p in printed if p.metric == metric]) == 12
  assert {str(p.test) for p in printed} == {str(cell.test) for cell in opened.cells} - {"none"}


def test_a_head_for_voc_leaves_0_to_the_background(tmp_path):
  root = tmp_path / "data" / "VOCdevkit" / "VOC2007"
  for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
    (root / folder).mkdir(parents=True)
  Image.new("RGB", (16, 12)).save(root / "JPEGImages/a.jpg")
  corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
  objects = "".join(f"<object><name>{n}</name><bndbox>{corners}</bndbox></object>" for n in ("aeroplane", "tvmonitor"))
  (root / "Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
  for split in ("trainval", "test"):
    (root / f"ImageSets/Main/{split}.txt").write_text("a\n")
  opened = planned(ROOT / "configs" / "poyser2020_detection.py", tmp_path)
  [model] = opened.bench.models.values()
  source = opened.bench.labelled(model, opened.cells[0].data)
  assert source.target(0)["box_labels"].tolist() == [1, 20]
  assert len(source.classes) == dict(model.options)["n_classes"] == 21


# ---------------------------------------------------------------------------------------------------- kit


KIT = ROOT / "configs" / "imagenet_samples_kit.py"


def test_samples_plan_both_targets_at_all_points(tmp_path):
  opened = planned(KIT, tmp_path)
  assert roles(opened) == {"A": 1, "B": 13, "relative": 13}
  assert all(isinstance(cell, Cell) and cell.weights.source.startswith("file:") for cell in opened.cells)


def test_samples_without_the_kit_name_the_file(tmp_path):
  config = settings.load_config(str(KIT), [f"--config.data_dir={tmp_path}"])
  with pytest.raises(WeightsError, match=r"squeezenet1_0_tv\.pth.*data_dir"):
    study.Study(config, tmp_path)


# ---------------------------------------------------------------------------------------------- imagenette


@pytest.mark.parametrize("arg", ["squeezenet", "mobilenet_v2", "nano"])
def test_imagenette_plans_every_network_alike(tmp_path, arg):
  opened = planned(f"{ROOT / 'configs' / 'imagenette_kit.py'}:{arg}", tmp_path)
  assert roles(opened) == {"A": 1, "B": 9, "C": 5, "control": 10}
  trained = {str(cell.test) for cell in opened.cells if protocols.role(cell) == "C"}
  assert trained == {"jpeg@5", "jpeg@10", "jpeg@20", "webp@1", "webp@10"}


def test_imagenette_with_an_unknown_network():
  with pytest.raises(SpecError, match="did you mean 'squeezenet'"):
    settings.load_config(f"{ROOT / 'configs' / 'imagenette_kit.py'}:squeezent")


# ------------------------------------------------------------------------------------------------- learned codecs


@pytest.mark.parametrize("arg", ["mbt2018-mean", "mbt2018", "cheng2020-gmm"])
def test_codecs_are_trained_on_what_they_say_and_never_on_kodak(tmp_path, arg):
  opened = planned(f"{ROOT / 'configs' / 'codec_small.py'}:{arg}", tmp_path)
  [cell] = opened.cells
  assert protocols.role(cell) == "A"
  assert cell.weights.init.source.startswith("started:")
  assert "kodak" not in cell.weights.data


def test_published_schedules_have_the_published_widths(tmp_path):
  opened = planned(f"{ROOT / 'configs' / 'compressai2020.py'}:mbt2018-6-ms-ssim", tmp_path)
  [model] = opened.bench.models.values()
  assert (opened.config.task, model.module().n, model.module().m) == ("codec-ms-ssim", 192, 320)
  with pytest.raises(SpecError, match="did you mean 'mbt2018'"):
    settings.load_config(f"{ROOT / 'configs' / 'compressai2020.py'}:mbt2108-6")


# ------------------------------------------------------------------------------------------------- scenes


def test_the_quickstart_plans_what_it_says(tmp_path):
  path = ROOT / "configs" / "quickstart.py"
  opened = planned(path, tmp_path)
  assert roles(opened) == {"A": 1, "B": 14, "relative": 14, "C": 4, "control": 15}
  codecs = collections.Counter(cell.test.codec for cell in opened.cells if protocols.role(cell) == "B")
  assert codecs == {"jpeg": 7, "webp": 5, "mbt2018-mean": 2}
  assert "seven JPEG qualities, five of WebP and two of a learned codec" in " ".join(docstring(path).split())
  assert "finetuned at four" in docstring(path)


def test_the_scenes_classifier_trains_on_the_pictures_it_says(tmp_path):
  opened = planned(ROOT / "configs" / "scenes_classifier.py", tmp_path)
  source = opened.bench.pictures.source(opened.config.train_data)
  height, width = source.picture(0).clip.shape[1:3]
  assert f"{len(source)} rendered pictures of {height}×{width}" in docstring(ROOT / "configs" / "scenes_classifier.py")
