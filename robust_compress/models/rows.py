"""What a row of the tables of detectors and of segmenters says, and the part of a ModelSpec that both make of it."""

from __future__ import annotations

import importlib
from dataclasses import KW_ONLY, dataclass
from types import ModuleType
from typing import Any

from robust_compress.types import InputSpec, Published, Weights

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and standard deviation
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class DenseRow:
  """A model whose outputs have a place in the picture, and so are fed padded pictures (`types.InputSpec`)."""

  name: str
  builder: str  # 'file:function' in this folder; the file has RULES too
  source: str  # of the base weights
  n_params: int
  _: KW_ONLY
  classes: str
  resize: int | tuple[int, int] | None = None
  longest: int | None = None
  multiple: int = 1
  score: float | None = None  # per cent, as published
  read_at: str = ""
  rules: str = "RULES"
  reading: str = ""  # the name of further rules for reading
  normalisation: Normalisation = IMAGENET

  def module(self) -> ModuleType:
    """The file of the architecture, imported when a model is loaded, so that listing needs no jax."""
    return importlib.import_module(f"robust_compress.models.{self.builder.partition(':')[0]}")

  def shared(self, task: str, metric: str, size: tuple[int, int]) -> dict[str, Any]:
    """The fields of a ModelSpec that detectors and segmenters fill alike. `size` is that of the padded input."""
    module = self.module()
    return {
      "name": self.name,
      "task": task,
      "build": getattr(module, self.builder.partition(":")[2]),
      "input": InputSpec(
        size, self.resize, "bilinear", *self.normalisation, fit="pad", longest=self.longest, multiple=self.multiple
      ),
      "base": Weights(self.source),
      "rules": getattr(module, self.rules),
      "reading": getattr(module, self.reading) if self.reading else (),
      "classes": self.classes,
      "n_params": self.n_params,
      "published": None if self.score is None else Published(metric, round(self.score / 100, 5), self.read_at),
    }
