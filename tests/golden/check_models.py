"""Every classifier of the table at full size against its reference, on the same seeded weights:

    PYTHONPATH=. python tests/golden/check_models.py [name …]

Runs in an environment with this project, torch, torchvision and timm; a few minutes on two cores, 4 GB of memory.
The weights leave through `convert.to_foreign` and are loaded by PyTorch with strict=True. Fails where
max |Δ logit| > 1e-4 · max(1, max |logit|).
"""

import sys
import time

import jax
import model_cases
import numpy as np
import reference
import seeded
import torch

from robust_compress import convert, models


def check(name: str, network: str) -> float:
  """The largest difference of logits, as a share of max(1, the largest logit)."""
  model, theirs = models.load_model(name), reference.build(network)
  arrays = seeded.state_dict(reference.shapes(theirs))
  variables = convert.to_variables(arrays, model.rules, models.template(model), name)
  reference.load(theirs, convert.to_foreign(variables, model.rules))
  picture = seeded.picture(model.input.size)
  with torch.inference_mode():
    expected = reference.logits(theirs, picture).numpy()
  with jax.default_matmul_precision("highest"):
    actual = np.asarray(jax.jit(model.module().apply)(variables, picture))
  return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))


def main(names: list[str]) -> None:
  classifiers = [name for name, row in models.MODELS.items() if isinstance(row, models.Classifier)]
  rows = [name for name in names or classifiers if name not in model_cases.WITHOUT_REFERENCE]
  networks = {(models.MODELS[name].builder, model_cases.reference_of(name)): name for name in rows}
  worst = 0.0
  for (builder, network), name in networks.items():
    start = time.time()
    difference = check(name, network)
    worst = max(worst, difference)
    print(f"{builder:32} {network:42} {difference:.1e}  {time.time() - start:.0f} s", flush=True)
  sys.exit(f"the largest difference is {worst:.1e}; at most 1e-4 is allowed" if not worst <= 1e-4 else 0)


if __name__ == "__main__":
  main(sys.argv[1:])
