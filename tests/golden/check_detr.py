"""DETR at full size against transformers, on the same seeded weights and two padded pictures:

    PYTHONPATH=. python tests/golden/check_detr.py [name …]

Runs in an environment with this project, torch, timm and transformers (5.23); a minute a network on two cores, 4 GB of
memory. The weights leave through `convert.to_foreign` and are loaded by PyTorch with strict=True. Fails where logits or
boxes differ by more than 1e-4 · max(1, max |answer|).
"""

import sys
import time

import jax
import numpy as np
import reference
import seeded
import torch
from transformers import DetrConfig, DetrForObjectDetection

from robust_compress import convert, models
from robust_compress.models import detr_names

NAMES = {
  "detr_resnet50.coco": ("resnet50", False),
  "detr_resnet101.coco": ("resnet101", False),
  "detr_resnet101_dc5.coco": ("resnet101", True),
}
SIZE, SIZES = (320, 416), np.array([[320, 400], [250, 416]], np.int32)


def check(name: str) -> float:
  """The largest difference, as a share of max(1, the largest answer)."""
  backbone, dilated = NAMES[name]
  theirs = DetrForObjectDetection(DetrConfig(backbone=backbone, dilation=dilated, num_labels=91)).eval()
  model = models.load_model(name)
  arrays = seeded.state_dict(reference.shapes(theirs))
  variables = convert.to_variables(arrays, detr_names.MODULE_RULES, models.template(model), name)
  reference.load(theirs, convert.to_foreign(variables, detr_names.MODULE_RULES))
  picture, mask = seeded.picture(SIZE), np.zeros((2, *SIZE), np.int64)
  for one, (height, width) in zip(mask, SIZES):
    one[:height, :width] = 1
  picture *= mask[..., None].astype(np.float32)
  with torch.inference_mode():
    found = theirs(torch.from_numpy(picture).permute(0, 3, 1, 2), torch.from_numpy(mask))
  with jax.default_matmul_precision("highest"):
    predict = jax.jit(lambda *given: model.module().apply(*given, train=False, method="predict"))
    answers = predict(variables, picture, SIZES)
  pairs = [(np.asarray(ours[-1]), one.numpy()) for ours, one in zip(answers, (found.logits, found.pred_boxes))]
  return max(float(np.abs(ours - one).max() / max(1.0, np.abs(one).max())) for ours, one in pairs)


def main(names: list[str]) -> None:
  worst = 0.0
  for name in names or NAMES:
    start = time.time()
    difference = check(name)
    worst = max(worst, difference)
    print(f"{name:28} {difference:.1e}  {time.time() - start:.0f} s", flush=True)
  sys.exit(f"the largest difference is {worst:.1e}; at most 1e-4 is allowed" if not worst <= 1e-4 else 0)


if __name__ == "__main__":
  main(sys.argv[1:])
