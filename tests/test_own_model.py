"""The user's own: networks by name, functions of another framework, and weights that leave in foreign keys."""

import dataclasses
import functools
import importlib
import sys

import jax
import numpy as np
import pytest
from golden import seeded
from golden.model_cases import CASES, N_CLASSES

from robust_compress import convert, evaluate, models, settings, study
from robust_compress.tasks import load_task
from robust_compress.types import InputSpec, ModelSpec, SpecError, TrainError, Weights, WeightsError

TASK = load_task("classification")
MY_MODULE = '''
import flax.linen as nn
import numpy as np
from robust_compress.types import InputSpec, ModelSpec, Weights

class Net(nn.Module):
  dtype: str = "float32"
  batch_norm: str = "local"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(10, name="head")(x.mean((1, 2)))

def network():
  return ModelSpec("my_module:network", "classification", Net, InputSpec((8, 8), None), Weights("random"))

def predict(image):
  """Class k where the picture's mean brightness is k tenths."""
  level = image.mean((1, 2, 3)) / 25.6
  return -np.abs(level[:, None] - np.arange(10))

predict.input = InputSpec((32, 32), None)

def predictions(image):
  best = np.argsort(-predict(image), axis=1)[:, :5]
  return {"top1": best[:, 0], "top5": best}

def made():
  predictions.input, predictions.version = predict.input, "2"
  return predictions

def forgot_input(image):
  return predict(image)
'''


@pytest.fixture
def my_module(tmp_path, monkeypatch):
  """A module of the user's, importable as `my_module`."""
  (tmp_path / "my_module.py").write_text(MY_MODULE)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "my_module", raising=False)
  yield importlib.import_module("my_module")
  sys.modules.pop("my_module")


def pictures(n=6, size=32):
  image = np.random.default_rng(0).integers(0, 256, (n, size, size, 3)) * np.arange(1, n + 1)[:, None, None, None] // n
  return {"image": image.astype(np.uint8), "id": np.array([f"{i}" for i in range(n)]), "mask": np.ones(n, bool)}


def predict_with(model, batch):
  return {name: np.asarray(value) for name, value in evaluate.foreign(model.call, TASK)(batch).items()}


# ------------------------------------------------------------------------------------------------ by name


def test_a_network_by_name_gets_weights_and_predicts(my_module):
  model = models.load_model("my_module:network")
  variables = models.load_weights(model)
  predictions = evaluate.Predictor(model, TASK)(variables, pictures(size=8))
  assert predictions["top5"].shape == (6, 5)


@pytest.mark.parametrize("name", ["my_module:predict", "my_module:made"])
def test_a_function_by_name_answers_by_logits_or_by_predictions(my_module, name):
  model, batch = models.load_model(name), pictures()
  expected = my_module.predictions(batch["image"])
  assert (model.name, model.input, models.load_weights(model)) == (name, InputSpec((32, 32), None), {})
  assert model.base.source == {"my_module:predict": f"callable:{name}", "my_module:made": "callable:2"}[name]
  for key, value in predict_with(model, batch).items():
    np.testing.assert_array_equal(value, expected[key])


def test_what_a_function_must_have_is_said(my_module):
  with pytest.raises(
    SpecError, match=r"is a function; expected a ModelSpec, a function predict.*predict\.input = InputSpec"
  ):
    models.load_model("my_module:forgot_input")
  with pytest.raises(SpecError, match="is a module"):
    models.load_model("my_module:np")


@pytest.mark.parametrize(
  ("answer", "complaint"),
  [
    (np.zeros(6), r"answers 6 pictures by shape \(6,\); expected one row of logits each"),
    (np.zeros((5, 10)), r"by shape \(5, 10\)"),
    ({"top1": np.zeros(6)}, r"answers of classification lack top5"),
    ({"top1": np.zeros(6), "top5": np.zeros((5, 6))}, r"top5 has shape \(5, 6\); expected 6 rows"),
  ],
)
def test_answers_of_another_shape_are_refused(answer, complaint):
  model = models.from_callable(lambda image: answer, InputSpec((32, 32), None), "mine")
  with pytest.raises(SpecError, match=complaint):
    model.call(pictures()["image"])


BOXES = {"boxes": np.zeros((6, 3, 4)), "scores": np.zeros((6, 3)), "labels": np.zeros((6, 3), int)}


@pytest.mark.parametrize(
  ("task", "answer", "complaint"),
  [
    ("segmentation", np.zeros((6, 11, 32, 32)), r"logits \[6, 11, 32, 32\]; expected \[b h w k\].*put classes last"),
    ("segmentation", {"logits": np.zeros((6, 8, 8, 11))}, "as large as the pictures.*scale smaller logits up"),
    ("segmentation", {"out": np.zeros((6, 32, 32, 11))}, "answers out; answers of segmentation lack logits"),
    ("detection", np.zeros((6, 3, 4)), "by an array; expected of detection a mapping of boxes, scores, labels"),
    ("detection", {"boxes": BOXES["boxes"]}, "answers of detection lack scores, labels"),
    ("detection", BOXES | {"scores": np.zeros((6, 3, 1))}, r"scores has shape \(6, 3, 1\); expected 6 rows and 2 axes"),
  ],
)
def test_dense_answers_of_another_shape_are_refused(task, answer, complaint):
  model = models.from_callable(lambda image: answer, InputSpec((32, 32), None), "mine", task=task)
  with pytest.raises(SpecError, match=complaint):
    model.call(pictures()["image"])


def test_a_detector_of_another_framework_answers_in_pixels_of_its_input():
  """Which are half as long here as those of the view."""
  task = load_task("detection")
  boxes = np.float32([[[4, 6, 20, 30]]])
  model = models.from_callable(
    lambda image: {"boxes": boxes, "scores": np.ones((1, 1)), "labels": np.ones((1, 1), int), "masks": None},
    InputSpec((32, 32), None),
    "mine",
    task="detection",
  )
  place = np.float32([[0, 0, 2, 2, 32, 32]])  # y x of the input's corner in the view, scales, extent of the input
  batch = {"image": pictures()["image"][:1], "place": place, "size": np.int32([[64, 64]])}
  found = evaluate.foreign(model.call, task)(batch)
  np.testing.assert_allclose(found["boxes"], 2 * boxes)


def test_a_segmenter_of_another_framework_answers_by_logits_of_its_input():
  truth = seeded.normal("truth", (2, 32, 32, 5)).argmax(-1).astype(np.uint8)
  model = models.from_callable(lambda image: np.eye(5)[truth], InputSpec((32, 32), None), "mine", task="segmentation")
  batch = {"image": pictures()["image"][:2], "segmentation": truth, "size": np.int32([[32, 32]] * 2)}
  batch["place"] = np.float32([[0, 0, 1, 1, 32, 32]] * 2)
  task = load_task("segmentation")
  found = {name: np.asarray(value) for name, value in evaluate.foreign(model.call, task)(batch).items()}
  records = task.statistics(found, batch)
  assert task.compute({"pixels": np.stack([record["pixels"] for record in records])})["mIoU"] == 1


def test_a_study_measures_a_function_and_refuses_to_train_it(my_module, tmp_path):
  config = settings.default_config()
  config.models, config.test_data = ("my_module:predict",), "scenes(size=32,n=20,input=asis):test"
  config.train_data, config.points = "scenes(size=32,n=20,input=asis):train", ("jpeg@5",)
  config.protocols, config.n_examples = ("baseline", "shifted", "relative"), 1
  config.recipe.steps = 1
  opened = study.Study(config, tmp_path / "run")
  opened.run()
  assert opened.missing() == []
  config.protocols = ("finetuned",)
  with pytest.raises(TrainError, match="is a function and has no weights to train"):
    study.Study(config, tmp_path / "run").run()


# ------------------------------------------------------------------------------------ other frameworks


def test_a_pytorch_network_is_measured_as_it_is():
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra 'torch')")
  torch.manual_seed(0)
  network = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()

  @torch.inference_mode()
  def predict(image):
    return network(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)

  model = models.from_callable(predict, InputSpec((32, 32), None), "torch")
  found = predict_with(model, pictures())
  np.testing.assert_array_equal(found["top5"], predict(pictures()["image"]).topk(5).indices)


def test_an_onnx_file_is_measured_as_it_is():
  onnx = pytest.importorskip("onnx", reason="onnx is not installed")
  runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
  h = onnx.helper
  kernel = h.make_tensor("w", 1, (10, 3, 1, 1), seeded.normal("w", (30,)))
  nodes = [h.make_node("Conv", ["x", "w"], ["c"]), h.make_node("GlobalAveragePool", ["c"], ["p"])]
  nodes.append(h.make_node("Flatten", ["p"], ["logits"]))
  ends = h.make_tensor_value_info("x", 1, ("b", 3, 32, 32)), h.make_tensor_value_info("logits", 1, ("b", 10))
  graph = h.make_graph(nodes, "tiny", [ends[0]], [ends[1]], [kernel])
  file = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8).SerializeToString()
  session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])

  def predict(image):
    return session.run(["logits"], {"x": image.transpose(0, 3, 1, 2).astype(np.float32) / 255})[0]

  found = predict_with(models.from_callable(predict, InputSpec((32, 32), None), "onnx"), pictures())
  expected = (pictures()["image"] / 255).mean((1, 2)) @ seeded.normal("w", (30,)).reshape(10, 3).T
  np.testing.assert_array_equal(found["top1"], expected.argmax(1))


# ------------------------------------------------------------------------------------------------- export


SMALL = [name for name in models.MODELS if "mobilenet" in name or "squeezenet" in name]


def spec_of(name):
  """A row of the table, or a reduced network of the goldens."""
  if name not in CASES:
    return models.load_model(name)
  case = CASES[name]
  file, builder = case.ours.split(":")
  module = importlib.import_module(f"robust_compress.models.{file}")
  build = functools.partial(getattr(module, builder), n_classes=N_CLASSES, **case.options)
  base, rules = Weights("random"), getattr(module, case.rules)
  return ModelSpec(name, "classification", build, InputSpec(case.size, None), base, rules)


def numbered(model):
  """Variables in which every element of an array differs from every other."""
  return jax.tree.map(lambda leaf: np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape), models.template(model))


@pytest.mark.parametrize("name", [*CASES, *SMALL])
def test_exported_weights_come_back_as_they_were(name, tmp_path):
  model = spec_of(name)
  variables = numbered(model)
  models.export(model, variables, tmp_path / "w.safetensors")
  found = convert.to_variables(convert.read(tmp_path / "w.safetensors"), model.rules, models.template(model))
  jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize("name", CASES)
def test_exported_weights_load_in_pytorch(name, tmp_path):
  reason = "torch, torchvision or timm is not installed; goldens hold the exported keys all the same"
  reference = pytest.importorskip("golden.reference", reason=reason)
  from safetensors.torch import load_file

  case, model = CASES[name], spec_of(name)
  models.export(model, numbered(model), tmp_path / "w.safetensors")
  network = reference.build(case.reference, num_classes=N_CLASSES, **case.reference_options)
  network.load_state_dict(load_file(tmp_path / "w.safetensors"), strict=True)


def test_exports_that_nobody_could_read_are_refused(tmp_path):
  model = spec_of("squeezenet")
  with pytest.raises(WeightsError, match=r"expected a name that ends in \.safetensors"):
    models.export(model, {}, tmp_path / "w.npz")
  with pytest.raises(WeightsError, match="its ModelSpec has no `rules`"):
    models.export(dataclasses.replace(model, rules=()), {}, tmp_path / "w.safetensors")
