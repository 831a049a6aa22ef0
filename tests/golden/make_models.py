"""Writes the goldens of models, in an environment with torch, torchvision, timm and numpy:

PYTHONPATH=. python tests/golden/make_models.py [case …]

models/<case>.npz      a reduced network on seeded weights: logits; logits, running statistics and gradients of
                       one training step (gradients as their norm and their product with a seeded direction)
models/state_dicts.json  number and digest of the keys and shapes of every classifier of the table
"""

import json
import sys
from pathlib import Path

import model_cases
import numpy as np
import reference
import seeded
import torch

from robust_compress.models import MODELS, Classifier

HERE = Path(__file__).parent / "models"


def outputs(case: model_cases.Case) -> dict[str, np.ndarray]:
  """What the reference answers, in evaluation and in one step of training."""
  model = reference.build(case.reference, num_classes=model_cases.N_CLASSES, **case.reference_options)
  reference.load(model, seeded.state_dict(reference.shapes(model)))
  picture = seeded.picture(case.size, 4)
  with torch.inference_mode():
    found = {"logits": reference.logits(model, picture).numpy()}
  for module in model.modules():  # dropout and stochastic depth stay off; batch norm takes the batch's moments
    module.train(isinstance(module, torch.nn.BatchNorm2d))
  logits = reference.logits(model.double(), picture.astype(np.float64))  # float32 can fall off the edge of a ReLU6
  labels = torch.from_numpy(seeded.labels(4, model_cases.N_CLASSES))
  torch.nn.functional.cross_entropy(logits, labels).backward()
  found["train/logits"] = logits.detach().float().numpy()
  for key, value in model.state_dict().items():
    if "running_" in key:
      found[f"train/{key}"] = value.float().numpy()
  for key, value in model.named_parameters():
    found[f"gradient/{key}"] = seeded.told(key, value.grad.numpy())
  return found


def state_dicts() -> dict[str, list]:
  """{name: [number of arrays, digest of keys and shapes]} for every classifier that has a reference."""
  listed = {}
  for name, row in MODELS.items():
    if isinstance(row, Classifier) and name not in model_cases.WITHOUT_REFERENCE:
      with torch.device("meta"):
        shapes = reference.shapes(reference.build(model_cases.reference_of(name)))
      listed[name] = [len(shapes), seeded.digest(shapes)]
  return listed


def main(names: list[str]) -> None:
  HERE.mkdir(exist_ok=True)
  for name in names or model_cases.CASES:
    np.savez_compressed(HERE / f"{name}.npz", **outputs(model_cases.CASES[name]))
    print(f"{name}: {(HERE / f'{name}.npz').stat().st_size} bytes")
  (HERE / "state_dicts.json").write_text(json.dumps(state_dicts(), indent=1) + "\n")


if __name__ == "__main__":
  main(sys.argv[1:])
