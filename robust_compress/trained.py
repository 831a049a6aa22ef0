"""Weights that studies train: where in the workdir they lie, under which conditions they were made, how they leave.

Weights ──▶ weights/<model>-<key>/ weights.json           what they are, and the conditions; written first
                                   checkpoints/, …        while training (`train.py`)
                                   variables.safetensors  written last: it means done ──export──▶ timm's keys
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from robust_compress import convert, named, specs, store
from robust_compress.files import write_atomic
from robust_compress.models.export import export as write_export
from robust_compress.types import StoreError, Weights, WeightsError

DESCRIPTION, VARIABLES = "weights.json", "variables.safetensors"
Conditions = Callable[[str, Weights], dict[str, str]]


class Trained:
  """The weights of one workdir.

  Args:
    workdir: of the study.
    conditions: (name of a model, weights) -> all that training depends on beside what is asked for, as of now.
    replace: weights that were trained under other conditions count as absent, instead of being an error.
  """

  def __init__(self, workdir: pathlib.Path, conditions: Conditions, replace: bool = False):
    self.workdir, self.conditions, self.replace = workdir, conditions, replace

  def folder(self, model: str, weights: Weights) -> pathlib.Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", ".", model).strip(".")
    return self.workdir / "weights" / f"{name}-{specs.weights_key(weights)}"

  def is_there(self, model: str, weights: Weights) -> bool:
    """Whether they are trained, and are what training would make now.

    Raises:
      StoreError: they were trained under other conditions, which are shown, and `replace` is not set.
    """
    folder = self.folder(model, weights)
    if differences := self._differences(model, weights):
      if not self.replace:
        remedy = "give --replace to train them again (the folder is kept under another name), or use another workdir"
        raise StoreError(f"{folder} was trained under other conditions: {'; '.join(differences)}; {remedy}")
      return False
    return (folder / VARIABLES).exists()

  def _differences(self, model: str, weights: Weights) -> list[str]:
    """Conditions in which a training found in the workdir is not today's. Without a folder no data is opened."""
    path = self.folder(model, weights) / DESCRIPTION
    if not path.exists():
      return []
    return store.differences(json.loads(path.read_text()).get("fingerprint", {}), self.conditions(model, weights))

  def claim(self, model: str, weights: Weights) -> None:
    """Says in their folder what is about to be trained, so that only the same training goes on there.

    Under `replace`, a folder of other conditions is first put away as <folder>.<n>.
    """
    folder = self.folder(model, weights)
    if self._differences(model, weights):
      n = sum(1 for _ in folder.parent.glob(f"{folder.name}.*"))
      folder.rename(f"{folder}.{n}")
    conditions = self.conditions(model, weights)
    description = {"model": model, "weights": specs.weights_to_json(weights), "fingerprint": conditions}
    write_atomic(folder / DESCRIPTION, json.dumps(description, indent=2).encode())

  def keep(self, model: str, weights: Weights, variables: Mapping[str, Any]) -> None:
    """Writes {'params': {'conv': {'kernel': …}}} with keys 'params/conv/kernel', beside the description."""
    convert.write_safetensors(self.folder(model, weights) / VARIABLES, convert.flatten(variables))

  def variables(self, model: str, weights: Weights) -> dict[str, Any]:
    """What `keep` wrote, as nested numpy arrays. Raises WeightsError where they are not trained yet."""
    if not self.is_there(model, weights):
      name = self.folder(model, weights).name
      raise WeightsError(f"{model}: the weights of {name} are not trained yet; run train first")
    return _read(self.folder(model, weights) / VARIABLES)


def _read(path: pathlib.Path) -> dict[str, Any]:
  return convert.unflatten(convert.read(path))


# ------------------------------------------------------------------------------------- weights that leave


def found(workdir: str | os.PathLike) -> dict[str, tuple[str, Weights, pathlib.Path]]:
  """{key: (model, what they are, file)} of all weights that were trained in a workdir."""
  there = {}
  for path in sorted(pathlib.Path(workdir).glob(f"weights/*/{VARIABLES}")):
    fields = json.loads((path.parent / DESCRIPTION).read_text())
    weights = specs.weights_from_json(fields["weights"])
    if path.parent.name.endswith(specs.weights_key(weights)):  # and not put away by --replace
      there[specs.weights_key(weights)] = fields["model"], weights, path
  return there


def export(workdir: str | os.PathLike, key: str, output: str | os.PathLike, half: bool = False) -> None:
  """Writes trained weights as safetensors in timm's, torchvision's or CompressAI's keys; with `half`, as float16.

  Raises WeightsError where the workdir has none of that key; names those it has.
  """
  there = found(workdir)
  if key not in there:
    known = "; ".join(f"{key}: {_describe(*one[:2])}" for key, one in there.items())
    raise WeightsError(f"{workdir} has no weights {key!r}; there are {known or 'none'}")
  name, _, path = there[key]
  write_export(named.load(name)[0], _read(path), output, half)


def _describe(name: str, weights: Weights) -> str:
  return f"{name} trained on {', '.join(map(str, weights.points))} of {weights.data}"
