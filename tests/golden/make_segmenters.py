"""Writes the goldens of segmenters, in an environment with this project, torch, torchvision, transformers, and
MMSegmentation 1.2.2 (made with torch 2.13, torchvision 0.28, transformers 5.23, mmengine 0.10.7, mmcv-lite 2.2.0):

PYTHONPATH=. python tests/golden/make_segmenters.py [case …]

segmenters/<case>.npz  a reduced network on seeded weights: logits at every fifth row and column, classes everywhere;
                       one training step's logits, auxiliary logits, running statistics and gradients (as their norm
                       and their product with a seeded direction); logits through windows
segmenters/layouts.json  number and digest of the keys and shapes of every row that has a reference, and shapes of
                       torchvision's VGG-16

UPerNet on Swin is compared with MMSegmentation and, from a file of the layout that the hub has, with transformers.
SegNet's reference is in Caffe, which is not run: it is compared with PyTorch's max_pool2d and max_unpool2d, put
together as its published description says.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mmseg_reference
import numpy as np
import seeded
import segmenter_cases
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from segmenter_cases import AUXILIARY, CASES, N_CLASSES, N_PICTURES, STEP, Case
from torch.nn import functional as F

from robust_compress.models import SEGMENTERS

HERE = Path(__file__).parent / "segmenters"


def outputs(case: Case) -> dict[str, np.ndarray]:
  """What the reference answers, in evaluation and in one step of training."""
  kind, _, name = case.reference.partition(":")
  if kind == "transformers":
    return {"logits": strided(hub_logits(case)), **keys_of_the_hub()}
  model = SegNet(**case.reference_options).eval() if kind == "torch" else None
  model = model or getattr(mmseg_reference, name)(**case.reference_options)
  mmseg_reference.load(model, seeded_state(model))
  images = seeded.photo(case.size, N_PICTURES)
  x = images.astype(np.float32) if kind == "torch" else segmenter_cases.normalised(images)
  x = torch.from_numpy(x).permute(0, 3, 1, 2)
  predict = (lambda model, x, window=None: model(x)) if kind == "torch" else mmseg_reference.logits
  with torch.inference_mode():
    logits = predict(model, x)
    found = {"logits": strided(logits), "classes": logits.argmax(1).numpy().astype(np.uint8)}
    if case.window:
      found["slid"] = strided(predict(model, x, case.window))
  train = (lambda model, x: (model(x), None)) if kind == "torch" else mmseg_reference.trained
  labels = seeded.segmentation(case.size, N_PICTURES, N_CLASSES).astype(np.int64)
  return found | trained(model, x, torch.from_numpy(labels), train)


def seeded_state(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """Constants, such as Swin's relative positions, stay what they are."""
  state = seeded.state_dict({key: shape for key, shape in mmseg_reference.shapes(model).items() if not constant(key)})
  return state | {key: value.numpy() for key, value in model.state_dict().items() if constant(key)}


def constant(key: str) -> bool:
  return key.endswith("relative_position_index")


def trained(model: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor, train: Callable) -> dict[str, np.ndarray]:
  for module in model.modules():
    module.train(isinstance(module, torch.nn.BatchNorm2d))
  logits, auxiliary = train(model.double(), x.double())
  loss = F.cross_entropy(logits, labels, ignore_index=255)
  found = {"train/logits": strided(logits.float())}
  if auxiliary is not None:
    loss = loss + AUXILIARY * F.cross_entropy(auxiliary, labels, ignore_index=255)
    found["train/auxiliary"] = strided(auxiliary.float())
  loss.backward()
  for key, value in model.state_dict().items():
    if "running_" in key:
      found[f"train/{key}"] = value.float().numpy()
  for key, value in model.named_parameters():
    found[f"gradient/{key}"] = seeded.told(key, value.grad.numpy())
  return found


def strided(logits: torch.Tensor) -> np.ndarray:
  """[n k h w] to [n h/5 w/5 k]."""
  return logits.detach().permute(0, 2, 3, 1)[:, ::STEP, ::STEP].contiguous().numpy()


# ------------------------------------------------------------------------------------------ transformers


def hub_config(reduced: bool) -> transformers.UperNetConfig:
  options = {"embed_dim": 12, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "window_size": 4}
  options = options if reduced else {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
  stages = [f"stage{i}" for i in range(1, 5)]
  backbone = transformers.SwinConfig(out_features=stages, drop_path_rate=0.0, layer_norm_eps=1e-5, **options)
  width = {"hidden_size": 12, "auxiliary_channels": 10} if reduced else {}
  n_classes = N_CLASSES if reduced else 150
  channels = 48 if reduced else 384
  return transformers.UperNetConfig(
    backbone_config=backbone, num_labels=n_classes, auxiliary_in_channels=channels, **width
  )


def hub_shapes(reduced: bool) -> dict[str, tuple[int, ...]]:
  """Of a file as the hub has it, which `save_pretrained` writes still, under the names of the published files."""
  model = transformers.UperNetForSemanticSegmentation(hub_config(reduced))
  with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    from safetensors import safe_open

    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
      shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
  return {key: shape for key, shape in shapes.items() if "backbone.swin.layernorm" not in key}


def hub_logits(case: Case) -> torch.Tensor:
  """By `from_pretrained` of a file in the hub's layout, which transformers itself translates."""
  shapes = hub_shapes(reduced=True)
  arrays = {key: torch.from_numpy(value) for key, value in seeded.state_dict(shapes).items()}
  with tempfile.TemporaryDirectory() as folder:
    hub_config(reduced=True).save_pretrained(folder)
    save_file(arrays, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    model, said = transformers.UperNetForSemanticSegmentation.from_pretrained(folder, output_loading_info=True)
  if any(said.values()):
    raise SystemExit(f"transformers takes only a part of the file: {said}")
  x = torch.from_numpy(segmenter_cases.normalised(seeded.photo(case.size, N_PICTURES))).permute(0, 3, 1, 2)
  with torch.inference_mode():
    return model.eval()(x).logits


def keys_of_the_hub() -> dict[str, np.ndarray]:
  return {"keys": np.array(sorted(hub_shapes(reduced=True)))}


# ------------------------------------------------------------------------------------------------ SegNet


class SegNet(torch.nn.Module):
  """Encoder and decoder around PyTorch's pooling with indices."""

  depths = (2, 2, 3, 3, 3)

  def __init__(self, widths: tuple[int, ...], n_classes: int = N_CLASSES):
    super().__init__()
    self.plan: list[tuple[int, list[str]]] = []
    width = 3
    for stage, (depth, to) in enumerate(zip(self.depths, widths), start=1):
      for i in range(1, depth + 1):
        self._add(f"conv{stage}_{i}", width, to)
        width = to
    for stage in range(5, 0, -1):
      for i in range(self.depths[stage - 1], 0, -1):
        to = widths[stage - 1] if i > 1 else (widths[stage - 2] if stage > 1 else n_classes)
        self._add(f"conv{stage}_{i}_D", width, to, norm=(stage, i) != (1, 1))
        width = to

  def _add(self, name: str, width: int, to: int, norm: bool = True) -> None:
    self.add_module(name, torch.nn.Conv2d(width, to, 3, padding=1))
    if norm:
      self.add_module(f"{name}_bn", torch.nn.BatchNorm2d(to))

  def _unit(self, x: torch.Tensor, name: str) -> torch.Tensor:
    return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[n 3 h w] of red, green and blue from 0 to 255."""
    x, kept = x.flip(1), []
    for stage, depth in enumerate(self.depths, start=1):
      for i in range(1, depth + 1):
        x = self._unit(x, f"conv{stage}_{i}")
      size = x.shape[2:]
      x, at = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
      kept.append((at, size))
    for stage in range(5, 0, -1):
      at, size = kept.pop()
      x = F.max_unpool2d(x, at, 2, 2, output_size=size)
      for i in range(self.depths[stage - 1], 0, -1):
        name = f"conv{stage}_{i}_D"
        x = self.conv1_1_D(x) if name == "conv1_1_D" else self._unit(x, name)
    return x


# ----------------------------------------------------------------------------------------------- layouts


def layouts() -> dict[str, object]:
  listed: dict[str, object] = {}
  for row in SEGMENTERS:
    kind = row.source.partition(":")[0]
    if kind in ("mmseg", "hub"):
      mmseg = kind == "mmseg"
      shapes = mmseg_reference.shapes(mmseg_reference.full_size(row.name)) if mmseg else hub_shapes(reduced=False)
      shapes = {key: shape for key, shape in shapes.items() if not constant(key)}
      listed[row.name] = [len(shapes), seeded.digest(shapes)]
  for name in ("vgg16_bn", "vgg16"):
    with torch.device("meta"):
      shapes = mmseg_reference.shapes(torchvision.models.get_model(name))
    listed[name] = {key: shape for key, shape in shapes.items() if key.startswith("features")}
  return listed


def main(names: list[str]) -> None:
  HERE.mkdir(exist_ok=True)
  for name in names or CASES:
    np.savez_compressed(HERE / f"{name}.npz", **outputs(CASES[name]))
    print(f"{name}: {(HERE / f'{name}.npz').stat().st_size} bytes")
  (HERE / "layouts.json").write_text(json.dumps(layouts(), indent=1) + "\n")


if __name__ == "__main__":
  main(sys.argv[1:])
