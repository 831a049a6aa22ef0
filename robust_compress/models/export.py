"""Weights of this project for everybody else: safetensors in the names that the model's rules lead to.

variables ──to_foreign(model.rules)──▶ file.safetensors ──▶ timm, torchvision: load_state_dict(…, strict=True)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from robust_compress import convert
from robust_compress.types import ModelSpec, WeightsError


def export(model: ModelSpec, variables: Mapping[str, Any], path: str | os.PathLike, half: bool = False) -> None:
  """Writes variables {'params': …, 'batch_stats': …} under the foreign keys of their model, whole or not at all.

  With `half`, as float16: half the size, and where they are read again, slightly other weights.

  Raises:
    WeightsError: another ending than .safetensors; a model without rules, variables that its rules do not name,
      numbers that are not finite, or over the range of float16.
  """
  if not os.fspath(path).endswith(".safetensors"):
    raise WeightsError(f"{path}: weights are exported as safetensors; expected a name that ends in .safetensors")
  if not model.rules:
    raise WeightsError(f"{model.name}: its ModelSpec has no `rules`, so its variables have no foreign names; add them")
  arrays = convert.to_foreign(variables, model.rules)
  convert.check_finite(arrays, str(path))
  convert.write_safetensors(path, convert.halved(arrays, str(path)) if half else arrays)
