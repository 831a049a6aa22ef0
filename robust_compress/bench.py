"""What the names in a cell stand for: models, weights, data; and what a cell's number depends on.

    'squeezenet1_0.tv_in1k(weights=file.pth)' ──▶ ModelSpec, variables ──▶ predict
    cell ──▶ fingerprint, computed without measuring anything

`study.py` decides what is to be done. Here things are opened, once each: pictures by `pictures.py`, weights that were
trained in the workdir by `trained.py`, all others here.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import PIL
from ml_collections import ConfigDict

from robust_compress import evaluate, models, named, provenance, settings, specs, tasks
from robust_compress.data import image_ops, inputs, labels
from robust_compress.pictures import Pictures
from robust_compress.trained import Trained
from robust_compress.types import NONE, STARTED, Cell, ModelSpec, Point, Source, SpecError, Weights, WeightsError


class Bench:
  """Opens what cells name. Nothing here trains, codes a data set, or writes a row.

  Args:
    config: of the study.
    workdir: its folder.
    replace: weights that were trained under other conditions count as absent, instead of being an error.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path, replace: bool = False):
    self.config, self.workdir = config, workdir
    self.task = tasks.load_task(config.task)
    self.models: dict[str, ModelSpec] = {}
    self._files: dict[str, pathlib.Path] = {}
    for text in config.models:
      self._add_model(text)
    self.pictures = Pictures(config, workdir)
    self.trained = Trained(workdir, self.conditions, replace)
    self._fingerprints: dict[tuple[str, str], str] = {}

  def _add_model(self, text: str) -> None:
    """'name' or 'name(weights=FILE)': a file's weights are named by its content, so that cells carry no path.

    Raises:
      SpecError: a model for another task; one that is named twice, with other weights.
      WeightsError: a file that is not there.
    """
    model, given = named.load(text)
    if model.task != self.config.task and {model.task, self.config.task} <= tasks.TASKS.keys():
      raise SpecError(f"{model.name} is a model for {model.task}; this study's task is {self.config.task}")
    for kind, file in given.items():
      data_dir = pathlib.Path(self.config.data_dir)
      path = data_dir / file
      if not path.is_file() and pathlib.Path(file).name == file:
        path = models.weights.SHIPPED / file
      if not path.is_file():
        raise WeightsError(
          f"{model.name}: no weights at {data_dir / file}; expected a file ({kind}=… starts from {data_dir=!s}), or "
          "the name of one that is shipped"
        )
      source = {"weights": "file", "start": STARTED}[kind]
      model = dataclasses.replace(model, base=Weights(f"{source}:{provenance.sha256_file(path)}"))
      self._files[model.name] = path
    if self.models.setdefault(model.name, model).base != model.base:
      raise SpecError(f"{model.name} is named twice, with other weights; use a study for each")

  def labelled(self, model: ModelSpec, data: str, point: Point = NONE) -> Source:
    """Pictures with labels in the order of the model's outputs: a named class list, or that of the training data.

    Raises SpecError for labels of another frame than the model is fed, and DataError for classes that it lacks.
    """
    source = self.pictures.source(data, point)
    inputs.check_labelled(source, model.input, specs.parse_data(data).view)
    whose, _, published = model.classes.partition(":")
    if whose not in ("", "source"):
      classes = labels.class_list(model.classes)
    else:
      classes = self.pictures.source(self.config.train_data or data).classes
      has_none = bool(published) and labels.class_list(published)[0] in ("", labels.BACKGROUND)
      if has_none and classes[:1] != (labels.BACKGROUND,):
        classes = (labels.BACKGROUND, *classes)
      _check_head(model, classes, data)
    return source if source.classes == classes else labels.RelabelledSource(source, classes)

  # --------------------------------------------------------------------------------------------- weights

  def base_weights(self, name: str) -> Weights:
    """What a study starts from: the model's own, or trained here on originals where the config has a base recipe."""
    model = self.models[name]
    if self.base_recipe is None:
      if models.weights.is_started(model.base):
        raise SpecError(f"{name}: start=… is where training starts, and there is no base_recipe; set one, or weights=…")
      return model.base
    if not self.config.train_data:
      raise SpecError(f"{name}: base_recipe trains base weights, but train_data is empty; name a data set")
    data = specs.format_data(specs.parse_data(self.config.train_data))
    start = model.base if models.weights.is_started(model.base) else Weights("random")
    return Weights("", start, data, (NONE,), self.base_recipe)

  @property
  def base_recipe(self) -> str | None:
    config = self.config.base_recipe
    return settings.recipe_of(config).canonical() if settings.has_length(config) else None

  def is_ready(self, model: str, weights: Weights) -> bool:
    """Whether the weights are there, and are what training would make now.

    Raises:
      TrainError: a user's function, before anything is coded for training it.
      StoreError: they were trained under other conditions, which are shown, and are not to be replaced.
    """
    if weights.source:
      return True
    if self.models[model].call is not None:
      raise models.callable.not_trainable(model)
    return self.trained.is_there(model, weights)

  def variables(self, model: str, weights: Weights) -> dict[str, Any]:
    """The numbers, as nested numpy arrays. Raises WeightsError where they are not trained yet."""
    spec = self.models[model]
    if spec.call is not None:
      return {}  # a function of another framework holds its own
    if weights.source:
      return models.load_weights(dataclasses.replace(spec, base=weights), self._files.get(model))
    return self.trained.variables(model, weights)

  def predictor(self, model: str) -> Callable[[Any], evaluate.Predict]:
    """variables -> predict; compiled once, whatever the number of weights."""
    spec = self.models[model]
    if spec.call is None:
      return evaluate.Predictor(spec, self.task).bind
    predict = evaluate.foreign(spec.call, self.task)
    return lambda variables: predict

  # --------------------------------------------------------------------------------------- fingerprints

  def fingerprint(self, cell: Cell) -> dict[str, str]:
    """Everything that can change the cell's number, as short texts. Computed without measuring anything."""
    model = self.models[cell.model]
    return {
      "codec": self._codec_fingerprint(cell.test),
      "data": self._data_fingerprint(model, cell.data),
      "input": _fed(model, cell.data),
      "metric": f"{self.task.name} {self.task.version}",
      "weights": self._weights_fingerprint(cell.model, cell.weights),
      **self.arithmetic,
    }

  def conditions(self, model: str, weights: Weights) -> dict[str, str]:
    """What weights that are trained here depend on, beside what they are asked to be."""
    spec = self.models[model]
    return {
      "codec": ", ".join(self._codec_fingerprint(point) for point in weights.points),
      "data": self._data_fingerprint(spec, weights.data),
      "init": "" if weights.init is None else self._weights_fingerprint(model, weights.init),
      "input": _fed(spec, weights.data, crops=True),
      **self.arithmetic,
    }

  @property
  def arithmetic(self) -> dict[str, str]:
    return {"precision": self.config.precision, "device": jax.default_backend()}

  def _codec_fingerprint(self, point: Point) -> str:
    return "" if point == NONE else self.pictures.levels.fingerprint(point)

  def _data_fingerprint(self, model: ModelSpec, data: str) -> str:
    """Of the pictures, and of their labels as the model counts them."""
    key = model.name, data
    if key not in self._fingerprints:
      self._fingerprints[key] = self.labelled(model, data).fingerprint()
    return self._fingerprints[key]

  def _weights_fingerprint(self, model: str, weights: Weights) -> str:
    """Of the whole chain back to the base: what each was trained on, by which codec, and on what device."""
    if weights.source:
      return specs.key_of(specs.weights_to_json(weights))
    return specs.key_of([self.conditions(model, weights), weights.recipe, weights.seed])


def _check_head(model: ModelSpec, classes: Sequence[str], data: str) -> None:
  """Raises SpecError for more classes than the network has: a detector would learn without the others, in silence."""
  has = None if model.call is not None else getattr(model.module(), "n_classes", None)
  if has is not None and len(classes) > has:
    of_these = ", of which the first is the background" * (classes[0] == labels.BACKGROUND)
    raise SpecError(
      f"{model.name}: the network has {has} classes, and {data} needs {len(classes)}{of_these}; use a model with a "
      f"head for them, as in (n_classes={len(classes)},start=FILE), or data of the classes that this one knows"
    )


def _fed(model: ModelSpec, data: str, crops: bool = False) -> str:
  """How the model is fed. Under input=asis its geometry says nothing, apart from how random crops are resized."""
  spec = model.input
  made_by = f"mean {spec.mean}, std {spec.std}, geometry {image_ops.VERSION}, pillow {PIL.__version__}"
  padding = f"padded by {spec.multiple}, " if spec.fit == "pad" else ""
  if window := getattr(model, "window", None):
    padding += f"windows {window}, "
  if specs.parse_data(data).view.input == "asis":
    return f"as is, {padding}{f'{spec.interpolation}, ' if crops else ''}{made_by}"
  if spec.fit == "pad":
    return f"resize {spec.resize}, at most {spec.longest} or {spec.size}, {padding}{spec.interpolation}, {made_by}"
  return f"resize {spec.resize}, crop {spec.size}, {spec.interpolation}, {made_by}"
