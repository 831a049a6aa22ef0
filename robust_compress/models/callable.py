"""A network of another framework as a model: any function of pictures is measured without being ported.

    predict: uint8[b h w 3] ──▶ logits float[b k], or predictions {'top1': int[b], 'top5': int[b 5]}

It does its own normalisation and holds its own weights, so it can be measured (baseline, shifted, relative) and not
trained. In a config it is named 'package.module:attribute', where the attribute is what `from_callable` returns, a
function with an attribute `input`, or a function without arguments that returns either.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from robust_compress.types import InputSpec, ModelSpec, SpecError, TrainError, Weights

Predict = Callable[[np.ndarray], Any]
PREDICTIONS = {"classification": {"top1", "top5"}}  # what a function may answer in place of network outputs, by task


def from_callable(
  predict: Predict,
  input: InputSpec,
  name: str = "",
  classes: str = "source",
  *,
  task: str = "classification",
  version: str = "",
) -> ModelSpec:
  """A function as a model that `evaluate` takes.

  Args:
    predict: pictures uint8[b h w 3] of `input.size` to logits[b k] or predictions; numpy or what numpy can read.
    input: evaluation geometry. Mean and std say nothing here: `predict` gets the pictures as they are.
    classes: class list of the outputs, such as 'imagenet1k'; 'source': those of the data, in their order.
    version: of the weights, such as a date or a hash. It stands in every row, so change it when they change.
  """
  name = name or f"{predict.__module__}:{predict.__qualname__}"

  def call(image: np.ndarray) -> Any:
    return _checked(predict(image), len(image), name, task)

  def build(**_: Any) -> NoReturn:
    raise not_trainable(name)

  base = Weights(f"callable:{version or name}")
  return ModelSpec(name=name, task=task, build=build, input=input, base=base, classes=classes, call=call)


def as_model(attribute: Any, name: str) -> ModelSpec:
  """What a 'package.module:attribute' stands for.

  Raises:
    SpecError: neither a model, nor a function with `input`, nor one that returns either.
  """
  model = _as_model(attribute, name)
  if model is None and callable(attribute) and _takes_nothing(attribute):
    attribute = attribute()
    model = _as_model(attribute, name)
  if model is None:
    raise SpecError(
      f"model {name!r} is a {type(attribute).__name__}; expected a ModelSpec, a function predict(pictures) with an "
      "attribute `input` (predict.input = InputSpec(…)), or a function without arguments that returns either"
    )
  return model


def not_trainable(name: str) -> TrainError:
  return TrainError(
    f"model {name!r} is a function and has no weights to train; protocols baseline, shifted and relative measure it, "
    "the others need a Flax network (a ModelSpec)"
  )


def _as_model(attribute: Any, name: str) -> ModelSpec | None:
  if isinstance(attribute, ModelSpec):
    return attribute
  if callable(attribute) and isinstance(input := getattr(attribute, "input", None), InputSpec):
    options = {key: getattr(attribute, key) for key in ("classes", "task", "version") if hasattr(attribute, key)}
    return from_callable(attribute, input, name, **options)
  return None


def _takes_nothing(function: Callable) -> bool:
  try:
    inspect.signature(function).bind()
  except (TypeError, ValueError):  # needs arguments; has no signature
    return False
  return True


def _checked(outputs: Any, n: int, name: str, task: str) -> Any:
  """Outputs as numpy, one row a picture. Raises SpecError for anything else."""
  if not isinstance(outputs, Mapping):
    array = np.asarray(outputs)
    if array.ndim < 2 or len(array) != n:
      raise SpecError(f"model {name!r} answers {n} pictures by shape {array.shape}; expected one row of logits each")
    return array
  arrays = {key: np.asarray(value) for key, value in outputs.items()}
  missing = sorted(PREDICTIONS.get(task, set()) - arrays.keys())
  if missing:
    raise SpecError(f"model {name!r} answers {', '.join(arrays) or 'nothing'}; predictions of {task} lack {missing}")
  if wrong := [key for key, array in arrays.items() if array.shape[:1] != (n,)]:
    raise SpecError(f"model {name!r}: {wrong[0]} has shape {arrays[wrong[0]].shape}; expected {n} rows")
  return arrays
