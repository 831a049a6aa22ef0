"""The reference networks, in PyTorch: timm's and torchvision's, built without weights.

torchvision's compiled part is missing where it was built for another device than PyTorch; its operators are then
declared here, which is enough to import it: no classifier calls them.
"""

import contextlib
from typing import Any

import numpy as np
import torch

_declared = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
  with contextlib.suppress(RuntimeError):  # already there
    _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402


def build(reference: str, **options: Any) -> torch.nn.Module:
  """'timm:resnet18' or 'torchvision:resnet18', in evaluation mode."""
  library, _, name = reference.partition(":")
  create = timm.create_model if library == "timm" else torchvision.models.get_model
  return create(name, **options).eval()


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
  return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def load(model: torch.nn.Module, arrays: dict[str, np.ndarray]) -> None:
  """Strictly: PyTorch raises for any key that is missing, unexpected or of another shape."""
  model.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}, strict=True)


def logits(model: torch.nn.Module, picture: np.ndarray) -> torch.Tensor:
  """float[n h w 3] to [n k], in the type of the model."""
  return model(torch.from_numpy(picture).permute(0, 3, 1, 2))
