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
from ml_collections import ConfigDict

from robust_compress import codecs, convert, evaluate, models, provenance, settings, specs, store, tasks
from robust_compress.data import cache, catalogue, labels, shards, sources
from robust_compress.models.export import export as write_export
from robust_compress.rate import Resolved, search_level
from robust_compress.types import (
  NONE,
  Cell,
  Clip,
  Codec,
  Data,
  DataError,
  LevelError,
  ModelSpec,
  Point,
  Source,
  SpecError,
  Weights,
  WeightsError,
)

SAMPLE = 200  # pictures on which a target rate's level is sought


class Bench:
  """Opens what cells name. Nothing here trains, codes a data set, or writes a row."""

  def __init__(self, config: ConfigDict, workdir: pathlib.Path):
    self.config, self.workdir = config, workdir
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
    """Shards do not depend on how a model is fed, nor on which study asks: only on the pictures and the point."""
    key = specs.key_of([_geometry(specs.parse_data(data)), str(point)])
    return self.workdir / "coded" / f"{point.codec}-{key}"

  def level(self, point: Point) -> float:
    """The point's level; for a target rate the one resolved on the study's test data."""
    return self.resolve(point).level if point.level is None else point.level

  def resolve(self, point: Point) -> Resolved:
    """The level that stands for a target rate: sought once, on a sample of the test data, and kept in the workdir."""
    found = self.resolved(point)
    if found is None:
      codec = self.codec(point)
      levels, continuous = _ladder(codec)
      found = search_level(self._rate_at(point), levels, point.bpp or 0, continuous=continuous)
      store.write_atomic(self._level_path(point), json.dumps({"point": str(point), **found._asdict()}).encode())
    return found

  def resolved(self, point: Point) -> Resolved | None:
    """What `resolve` kept, if it did."""
    path = self._level_path(point)
    if not path.exists():
      return None
    fields = json.loads(path.read_text())
    return Resolved(**{name: fields[name] for name in Resolved._fields})

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
    """Raises TrainError for a user's function, before anything is coded for training it."""
    if not weights.source and self.models[model].call is not None:
      raise models.callable.not_trainable(model)
    return bool(weights.source) or (self.weights_dir(model, weights) / "variables.safetensors").exists()

  def variables(self, model: str, weights: Weights) -> dict[str, Any]:
    """The numbers, as nested numpy arrays. Raises WeightsError where they are not trained yet."""
    spec = self.models[model]
    if spec.call is not None:
      return {}  # a function of another framework holds its own
    if weights.source:
      return models.load_weights(dataclasses.replace(spec, base=weights), self._files.get(model))
    path = self.weights_dir(model, weights) / "variables.safetensors"
    if not path.exists():
      raise WeightsError(f"{model}: the weights of {path.parent.name} are not trained yet; run train first")
    return load_variables(path)

  def predictor(self, model: str) -> Callable[[Any], evaluate.Predict]:
    """variables -> predict; compiled once, whatever the number of weights."""
    spec = self.models[model]
    if spec.call is None:
      return evaluate.Predictor(spec, self.task).bind
    predict = evaluate.foreign(spec.call, self.task)
    return lambda variables: predict

  def keep_variables(self, model: str, weights: Weights, variables: Mapping[str, Any]) -> None:
    """Writes what was trained, with its description beside it. The safetensors file comes last: it marks the end."""
    directory = self.weights_dir(model, weights)
    description = {"model": model, "weights": specs.weights_to_json(weights)}
    store.write_atomic(directory / "weights.json", json.dumps(description, indent=2).encode())
    save_variables(directory / "variables.safetensors", variables)

  # --------------------------------------------------------------------------------------- fingerprints

  def fingerprint(self, cell: Cell) -> dict[str, str]:
    """Everything that can change the cell's number, as short texts. Computed without measuring anything."""
    model = self.models[cell.model]
    return {
      "codec": self._codec_fingerprint(cell.test),
      "data": self._data_fingerprint(cell.data),
      "input": _fed(model, cell.data),
      "metric": f"{self.task.name} {self.task.version}",
      "weights": self._weights_fingerprint(model, cell.weights),
      **self.arithmetic,
    }

  @property
  def arithmetic(self) -> dict[str, str]:
    return {"precision": self.config.precision, "device": jax.default_backend()}

  def _codec_fingerprint(self, point: Point) -> str:
    return "" if point == NONE else self._once(("codec", point), lambda: self.codec(point).fingerprint())

  def _data_fingerprint(self, data: str) -> str:
    return self._once(("data", data), lambda: self.source(data).fingerprint())

  def _weights_fingerprint(self, model: ModelSpec, weights: Weights) -> str:
    """Of the whole chain back to the base: what each was trained on, by which codec, and on what device."""
    if weights.source:
      return specs.key_of(specs.weights_to_json(weights))
    init = "" if weights.init is None else self._weights_fingerprint(model, weights.init)
    coded = [self._codec_fingerprint(point) for point in weights.points]
    fed = [self._data_fingerprint(weights.data), _fed(model, weights.data), coded]
    parts = [init, fed, weights.recipe, weights.seed, self.arithmetic]
    return specs.key_of(parts)

  def _once(self, key: Any, compute: Any) -> str:
    if key not in self._fingerprints:
      self._fingerprints[key] = compute()
    return self._fingerprints[key]


def _fed(model: ModelSpec, data: str) -> str:
  """How the model is fed: under input=asis its geometry says nothing, its normalisation still does."""
  spec = model.input
  normalised = f"mean {spec.mean}, std {spec.std}"
  if specs.parse_data(data).view.input == "asis":
    return f"as is, {normalised}"
  return f"resize {spec.resize}, crop {spec.size}, {spec.interpolation}, {normalised}"


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
