"""What the names in a cell stand for: models, weights, data, coded data, opened once and kept.

    'squeezenet1_0.tv_in1k(weights=file.pth)' ──▶ ModelSpec, variables
    Data ──open_source──▶ view ──▶ Source ──(point)──▶ coded/<point>-<key>/ ──▶ Source of decoded pictures

`study.py` decides what is to be done; this file only opens things and knows where in the workdir they live.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import PIL
from ml_collections import ConfigDict

from robust_compress import codecs, convert, evaluate, models, provenance, settings, specs, store, tasks
from robust_compress.data import cache, catalogue, image_ops, labels, shards, sources
from robust_compress.models.export import export as write_export
from robust_compress.rate import Resolved, search_level
from robust_compress.types import (
  NONE,
  Cell,
  Clip,
  Codec,
  CodecError,
  Data,
  DataError,
  LevelError,
  ModelSpec,
  Point,
  Source,
  SpecError,
  StoreError,
  Weights,
  WeightsError,
)

SAMPLE = 200  # pictures on which a target rate's level is sought


class Bench:
  """Opens what cells name. Nothing here trains, codes a data set, or writes a row.

  Args:
    config: of the study.
    workdir: its folder.
    replace: weights that were trained under other conditions count as absent, instead of being an error.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path, replace: bool = False):
    self.config, self.workdir, self.replace = config, workdir, replace
    self.task = tasks.load_task(config.task)
    self.data_dir = pathlib.Path(config.data_dir)
    self.models: dict[str, ModelSpec] = {}
    self._files: dict[str, pathlib.Path] = {}
    for text in config.models:
      self._add_model(text)
    self._sources: dict[tuple[str, Point], Source] = {}
    self._fingerprints: dict[Any, str] = {}

  def _add_model(self, text: str) -> None:
    """'name' or 'name(weights=FILE)': a file's weights are named by its content, so that cells carry no path."""
    name, options = specs.parse_call(text)
    unknown = [key for key, _ in options if key != "weights"]
    if unknown:
      raise specs.nearest("model option", unknown[0], ["weights"])
    model = models.load_model(name)
    if file := dict(options).get("weights"):
      path = self.data_dir / file
      if not path.is_file():
        raise WeightsError(
          f"{name}: no weights at {path}; expected a file (weights=… starts from data_dir={self.data_dir})"
        )
      model = dataclasses.replace(model, base=Weights(f"file:{provenance.sha256_file(path)}"))
      self._files[name] = path
    self.models[name] = model

  # ------------------------------------------------------------------------------------------------ data

  def source(self, data: str, point: Point = NONE) -> Source:
    """What the codec sees of `data`, or the same coded at `point`; raises StoreError where it is not coded yet."""
    parsed = specs.parse_data(data)
    key = (_geometry(parsed), point)
    if key not in self._sources:
      if point == NONE:
        opened = sources.ViewedSource(sources.open_source(parsed, self.data_dir), parsed.view)
      else:
        opened = cache.CodedSource(self.source(data), self.coded_dir(data, point), self.codec(point))
      self._sources[key] = opened
    return self._sources[key]

  def labelled(self, model: ModelSpec, data: str, point: Point = NONE) -> Source:
    """`source` with labels in the order of the model's outputs: a named class list, or that of the training data."""
    source = self.source(data, point)
    if model.classes in ("", "source"):
      classes = self.source(self.config.train_data or data).classes
      return source if source.classes == classes else labels.RelabelledSource(source, classes)
    return labels.RelabelledSource(source, labels.class_list(model.classes))

  def n_examples(self, data: str) -> int | None:
    """Without its publisher's count a data set is opened; None where it is not on this machine."""
    n = catalogue.n_published(specs.parse_data(data))
    if n is not None:
      return n
    try:
      return len(self.source(data))
    except DataError:
      return None

  def codec(self, point: Point) -> Codec:
    return codecs.load_codec(point)

  def is_coded(self, data: str, point: Point) -> bool:
    return shards.read_manifest(self.coded_dir(data, point)) is not None

  def coded_dir(self, data: str, point: Point) -> pathlib.Path:
    """Shards do not depend on how a model is fed, nor on which study asks: only on the pictures and the point.

    A target rate is also named by its level: another study of this workdir may have found another one for it.
    """
    resolved = self.resolved(point)
    level = [] if resolved is None else [resolved.level]
    key = specs.key_of([_geometry(specs.parse_data(data)), str(point), *level])
    return self.workdir / "coded" / f"{point.codec}-{key}"

  def level(self, point: Point) -> float:
    """The point's level; for a target rate the one resolved on the study's test data."""
    return self.resolve(point).level if point.level is None else point.level

  def resolve(self, point: Point) -> Resolved:
    """The level that stands for a target rate: sought once, on a sample of the test data, and kept in the workdir.

    It is sought again where the data or the codec is no longer that on which it was found.
    """
    found = self.resolved(point)
    if found is None:
      codec = self.codec(point)
      levels, continuous = _ladder(codec)
      found = search_level(self._rate_at(point), levels, point.bpp or 0, continuous=continuous)
      fields = {"point": str(point), **self._sought_on(point), **found._asdict()}
      store.write_atomic(self._level_path(point), json.dumps(fields).encode())
    return found

  def resolved(self, point: Point) -> Resolved | None:
    """What `resolve` kept, if it did, and if it still holds. None for a point that has a level of its own."""
    path = self._level_path(point)
    if point.bpp is None or not path.exists():
      return None
    fields = json.loads(path.read_text())
    try:
      if any(fields.get(name) != value for name, value in self._sought_on(point).items()):
        return None
    except (DataError, CodecError):
      pass  # a report is drawn without the data and the codec: what was found then stands
    return Resolved(**{name: fields[name] for name in Resolved._fields})

  def _sought_on(self, point: Point) -> dict[str, str]:
    data = self.config.test_data
    source = self._once(("source", data), lambda: self.source(data).fingerprint())
    codec = self._once(("codec", point), lambda: self.codec(point).fingerprint())
    return {"source": source, "codec": codec}

  def _level_path(self, point: Point) -> pathlib.Path:
    data = specs.parse_data(self.config.test_data)
    return self.workdir / "levels" / f"{specs.key_of([_geometry(data), str(point)])}.json"

  def _rate_at(self, point: Point) -> Any:
    """level -> bits per pixel over a seeded sample of the test data."""
    codec, clips = self.codec(point), self._sample(self.source(self.config.test_data))
    n_pixels = sum(clip[..., 0].size for clip in clips)
    return lambda level: 8 * sum(len(c.blob) for c in codec.encode(clips, [level] * len(clips))) / n_pixels

  def _sample(self, source: Source) -> list[Clip]:
    """A seeded few of the pictures; under on_bad='skip' without those that cannot be read."""
    clips = []
    for index in np.random.default_rng(0).permutation(len(source))[:SAMPLE].tolist():
      try:
        clips.append(source.picture(index).clip)
      except DataError:
        if self.config.on_bad != "skip":
          raise
    if not clips:
      raise DataError(f"{self.config.test_data}: none of {min(SAMPLE, len(source))} pictures tried can be read")
    return clips

  # --------------------------------------------------------------------------------------------- weights

  def base_weights(self, name: str) -> Weights:
    """What a study starts from: the model's own, or trained here on originals where the config has a base recipe."""
    model = self.models[name]
    if self.base_recipe is None:
      return model.base
    if not self.config.train_data:
      raise SpecError(f"{name}: base_recipe trains base weights, but train_data is empty; name a data set")
    data = specs.format_data(specs.parse_data(self.config.train_data))
    return Weights("", Weights("random"), data, (NONE,), self.base_recipe)

  @property
  def base_recipe(self) -> str | None:
    config = self.config.base_recipe
    return settings.recipe_of(config).canonical() if settings.has_length(config) else None

  def weights_dir(self, model: str, weights: Weights) -> pathlib.Path:
    return self.workdir / "weights" / f"{model.replace(':', '.')}-{specs.weights_key(weights)}"

  def is_ready(self, model: str, weights: Weights) -> bool:
    """Whether the weights are there, and are what training would make now.

    Raises:
      TrainError: a user's function, before anything is coded for training it.
      StoreError: they were trained under other conditions, which are shown, and `replace` is not set.
    """
    if weights.source:
      return True
    if self.models[model].call is not None:
      raise models.callable.not_trainable(model)
    directory = self.weights_dir(model, weights)
    if differences := self._differences(model, weights):
      if not self.replace:
        remedy = "give --replace to train them again (the folder is kept under another name), or use another workdir"
        raise StoreError(f"{directory} was trained under other conditions: {'; '.join(differences)}; {remedy}")
      return False
    return (directory / "variables.safetensors").exists()

  def _differences(self, model: str, weights: Weights) -> list[str]:
    """Conditions in which a training found in the workdir is not today's. Without a folder no data is opened."""
    path = self.weights_dir(model, weights) / "weights.json"
    if not path.exists():
      return []
    old, new = json.loads(path.read_text()).get("fingerprint", {}), self._conditions(self.models[model], weights)
    return [f"{name} {old.get(name, 'unknown')} there, {new[name]} now" for name in new if old.get(name) != new[name]]

  def variables(self, model: str, weights: Weights) -> dict[str, Any]:
    """The numbers, as nested numpy arrays. Raises WeightsError where they are not trained yet."""
    spec = self.models[model]
    if spec.call is not None:
      return {}  # a function of another framework holds its own
    if weights.source:
      return models.load_weights(dataclasses.replace(spec, base=weights), self._files.get(model))
    directory = self.weights_dir(model, weights)
    if not self.is_ready(model, weights):
      raise WeightsError(f"{model}: the weights of {directory.name} are not trained yet; run train first")
    return load_variables(directory / "variables.safetensors")

  def predictor(self, model: str) -> Callable[[Any], evaluate.Predict]:
    """variables -> predict; compiled once, whatever the number of weights."""
    spec = self.models[model]
    if spec.call is None:
      return evaluate.Predictor(spec, self.task).bind
    predict = evaluate.foreign(spec.call, self.task)
    return lambda variables: predict

  def claim_weights(self, model: str, weights: Weights) -> None:
    """Says in their folder what is about to be trained, so that only the same training goes on there.

    Under `replace`, a folder of other conditions is first put away as <folder>.<n>.
    """
    directory = self.weights_dir(model, weights)
    if self._differences(model, weights):
      n = sum(1 for _ in directory.parent.glob(f"{directory.name}.*"))
      directory.rename(f"{directory}.{n}")
    conditions = self._conditions(self.models[model], weights)
    description = {"model": model, "weights": specs.weights_to_json(weights), "fingerprint": conditions}
    store.write_atomic(directory / "weights.json", json.dumps(description, indent=2).encode())

  def keep_variables(self, model: str, weights: Weights, variables: Mapping[str, Any]) -> None:
    """Writes what was trained beside its description. This file marks the end."""
    save_variables(self.weights_dir(model, weights) / "variables.safetensors", variables)

  # --------------------------------------------------------------------------------------- fingerprints

  def fingerprint(self, cell: Cell) -> dict[str, str]:
    """Everything that can change the cell's number, as short texts. Computed without measuring anything."""
    model = self.models[cell.model]
    return {
      "codec": self._codec_fingerprint(cell.test),
      "data": self._data_fingerprint(model, cell.data),
      "input": _fed(model, cell.data),
      "metric": f"{self.task.name} {self.task.version}",
      "weights": self._weights_fingerprint(model, cell.weights),
      **self.arithmetic,
    }

  @property
  def arithmetic(self) -> dict[str, str]:
    return {"precision": self.config.precision, "device": jax.default_backend()}

  def _codec_fingerprint(self, point: Point) -> str:
    """With the level, once it is known, that stands for a target rate."""
    if point == NONE:
      return ""
    codec, resolved = self._once(("codec", point), lambda: self.codec(point).fingerprint()), self.resolved(point)
    return codec if resolved is None else f"{codec} at level {resolved.level:g}"

  def _data_fingerprint(self, model: ModelSpec, data: str) -> str:
    """Of the pictures, and of their labels as the model counts them."""
    return self._once(("data", model.name, data), lambda: self.labelled(model, data).fingerprint())

  def _weights_fingerprint(self, model: ModelSpec, weights: Weights) -> str:
    """Of the whole chain back to the base: what each was trained on, by which codec, and on what device."""
    if weights.source:
      return specs.key_of(specs.weights_to_json(weights))
    return specs.key_of([self._conditions(model, weights), weights.recipe, weights.seed])

  def _conditions(self, model: ModelSpec, weights: Weights) -> dict[str, str]:
    """What weights that are trained here depend on, beside what they are asked to be."""
    return {
      "codec": ", ".join(self._codec_fingerprint(point) for point in weights.points),
      "data": self._data_fingerprint(model, weights.data),
      "init": "" if weights.init is None else self._weights_fingerprint(model, weights.init),
      "input": _fed(model, weights.data, crops=True),
      **self.arithmetic,
    }

  def _once(self, key: Any, compute: Any) -> str:
    if key not in self._fingerprints:
      self._fingerprints[key] = compute()
    return self._fingerprints[key]


def _fed(model: ModelSpec, data: str, crops: bool = False) -> str:
  """How the model is fed. Under input=asis its geometry says nothing, apart from how random crops are resized."""
  spec = model.input
  made_by = f"mean {spec.mean}, std {spec.std}, geometry {image_ops.VERSION}, pillow {PIL.__version__}"
  if specs.parse_data(data).view.input == "asis":
    return f"as is, {f'{spec.interpolation}, ' if crops else ''}{made_by}"
  return f"resize {spec.resize}, crop {spec.size}, {spec.interpolation}, {made_by}"


def _geometry(data: Data) -> str:
  """The data without how a model is fed from it."""
  return specs.format_data(dataclasses.replace(data, view=dataclasses.replace(data.view, input="model")))


def _ladder(codec: Codec) -> tuple[Sequence[float], bool]:
  """(levels to search, whether all between them are levels too). Most codecs count in whole steps, up or down."""
  low, high = codec.levels[0], codec.levels[-1]
  try:
    codecs.check_level(codec, int(min(low, high)) + 0.5)
    return codec.levels, True
  except LevelError:
    step = 1 if low < high else -1
    return range(int(low), int(high) + step, step), False


def save_variables(path: pathlib.Path, variables: Mapping[str, Any]) -> None:
  """{'params': {'conv': {'kernel': …}}} as safetensors with keys 'params/conv/kernel', atomically."""
  convert.write_safetensors(path, convert.flatten(variables))


def load_variables(path: pathlib.Path) -> dict[str, Any]:
  return convert.unflatten(convert.read(path))


# ------------------------------------------------------------------------------------- weights that leave


def trained(workdir: str | os.PathLike) -> dict[str, tuple[str, Weights, pathlib.Path]]:
  """{key: (model, what they are, file)} of all weights that were trained in a workdir."""
  found = {}
  for path in sorted(pathlib.Path(workdir).glob("weights/*/variables.safetensors")):
    fields = json.loads((path.parent / "weights.json").read_text())
    weights = specs.weights_from_json(fields["weights"])
    if path.parent.name.endswith(specs.weights_key(weights)):  # and not put away by --replace
      found[specs.weights_key(weights)] = fields["model"], weights, path
  return found


def export(workdir: str | os.PathLike, key: str, output: str | os.PathLike) -> None:
  """Writes trained weights as safetensors in timm's or torchvision's keys.

  Raises WeightsError where the workdir has none of that key; names those it has.
  """
  there = trained(workdir)
  if key not in there:
    known = "; ".join(f"{key}: {_describe(*found[:2])}" for key, found in there.items())
    raise WeightsError(f"{workdir} has no weights {key!r}; there are {known or 'none'}")
  name, _, path = there[key]
  write_export(models.load_model(name), load_variables(path), output)


def _describe(name: str, weights: Weights) -> str:
  return f"{name} trained on {', '.join(map(str, weights.points))} of {weights.data}"
