"""A network of another framework as a model: any function of pictures is measured without being ported.

    predict: uint8[b h w 3] ──▶ classification   logits float[b k], or {'top1': int[b], 'top5': int[b 5]}
                                segmentation     logits float[b h w k], as large as the pictures
                                detection        {'boxes': float[b n 4], 'scores': float[b n], 'labels': int[b n]}

Boxes are x0 y0 x1 y1 in pixels of what the function was given, best first; a label of -1 fills up the rows of pictures
with fewer. What becomes of them in the view is the task's business (`Task.predict`). A function does its own
normalisation and holds its own weights, so it can be measured (baseline, shifted, relative) and not trained. In a
config it is named 'package.module:attribute', where the attribute is what `from_callable` returns, a function with an
attribute `input`, or a function without arguments that returns either.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from robust_compress.types import InputSpec, ModelSpec, SpecError, TrainError, Weights

Predict = Callable[[np.ndarray], Any]
NAMES = {  # in answers that are mappings, by task, and the axes of each behind the first
  "classification": {"top1": 0, "top5": 1},
  "detection": {"boxes": 2, "scores": 1, "labels": 1},
  "segmentation": {"logits": 3},
}
LOGITS = {"classification": 2, "segmentation": 4}  # axes of bare ones; of another task, at least two


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
    predict: pictures uint8[b h w 3] of `input.size` to what the head of this file says; numpy or what numpy can read.
    input: evaluation geometry. Mean and std say nothing here: `predict` gets the pictures as they are.
    classes: class list of the outputs, such as 'imagenet1k'; 'source': those of the data, in their order.
    version: of the weights, such as a date or a hash. It stands in every row, so change it when they change.
  """
  name = name or f"{predict.__module__}:{predict.__qualname__}"

  def call(image: np.ndarray) -> Any:
    return _checked(predict(image), image.shape[:3], name, task)

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


def _checked(outputs: Any, shape: tuple[int, int, int], name: str, task: str) -> Any:
  """Outputs for pictures of [b h w] as numpy. Raises SpecError for anything that is not of the task."""
  if isinstance(outputs, Mapping):
    outputs = _named(outputs, shape[0], name, task)
    logits = outputs.get("logits")
  else:
    outputs = logits = np.asarray(outputs)
    n_axes = LOGITS.get(task, outputs.ndim)
    if task not in LOGITS and task in NAMES:
      raise SpecError(f"model {name!r} answers by an array; expected of {task} a mapping of {_list(NAMES[task])}")
    if outputs.ndim < 2 or outputs.ndim != n_axes or len(outputs) != shape[0]:
      raise SpecError(
        f"model {name!r} answers {shape[0]} pictures by shape {outputs.shape}; expected one row of logits each"
      )
  if task == "segmentation" and logits.shape[:3] != shape:
    raise SpecError(
      f"model {name!r} answers pictures {list(shape)} by logits {list(logits.shape)}; expected [b h w k] as large as "
      "the pictures: put classes last, and scale smaller logits up (bilinear, align_corners=False)"
    )
  return outputs


def _named(outputs: Mapping[str, Any], n: int, name: str, task: str) -> dict[str, np.ndarray]:
  """What the task reads of a mapping; of a task of the user's own, all."""
  names = NAMES.get(task)
  missing = [] if names is None else [key for key in names if key not in outputs]
  if missing:
    raise SpecError(f"model {name!r} answers {_list(outputs) or 'nothing'}; answers of {task} lack {_list(missing)}")
  arrays = {key: np.asarray(outputs[key]) for key in names or outputs}
  for key, array in arrays.items():
    if array.shape[:1] != (n,) or (names and array.ndim != 1 + names[key]):
      raise SpecError(
        f"model {name!r}: {key} has shape {array.shape}; expected {n} rows"
        + (f" and {1 + names[key]} axes" if names else "")
      )
  return arrays


def _list(names: Iterable[str]) -> str:
  return ", ".join(names)
