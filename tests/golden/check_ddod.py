"""DDOD at full size against MMDetection, on the same seeded weights and one picture:

    PYTHONPATH=.:tests python tests/golden/check_ddod.py

Runs in an environment with this project, torch, torchvision and MMDetection 3.3.0; a few minutes on two cores. The
weights leave through `convert.to_foreign` and are loaded by PyTorch with strict=True. Fails where what the heads say
differs by more than 1e-4 of its largest number.
"""

import sys

import ddod_cases as cases
import jax
import jax.numpy as jnp
import mmdet_reference
import numpy as np
import reference
import seeded
import torch

from robust_compress import convert, models
from robust_compress.models import ddod

SIZE = (320, 416)


def main() -> None:
  model, theirs = models.load_model("ddod_r50_fpn.mmdet_coco"), mmdet_reference.detector(reduced=False)
  arrays = cases.weights(reference.shapes(theirs))
  variables = convert.to_variables(arrays, ddod.RULES, models.template(model), model.name)
  reference.load(theirs, convert.to_foreign(variables, ddod.RULES))
  picture = seeded.picture(SIZE, 1)
  with torch.inference_mode():
    raw = theirs(torch.from_numpy(picture).permute(0, 3, 1, 2), mode="tensor")
    [kept] = theirs.bbox_head.predict_by_feat(*raw, batch_img_metas=[{"img_shape": SIZE}])
  heads = lambda module, _: module.name == "bbox_head"  # noqa: E731

  def run(variables: dict, picture: jax.Array) -> tuple:
    net = model.module()
    outputs, found = net.apply(variables, picture, jnp.asarray([SIZE], jnp.int32), capture_intermediates=heads)
    return outputs, found["intermediates"]["bbox_head"]["__call__"][0][:3]

  with jax.default_matmul_precision("highest"):
    outputs, said = jax.jit(run)(variables, picture)
  worst = 0.0
  for name, ours, levels in zip(("logits", "deltas", "iou"), said, raw, strict=True):
    expected = torch.cat([x[0].flatten(1).T for x in levels]).numpy()
    difference = float(np.abs(np.asarray(ours)[0].reshape(expected.shape) - expected).max() / np.abs(expected).max())
    worst = max(worst, difference)
    print(f"{name:8} {difference:.1e}")
  n = len(kept.scores)
  same = np.asarray(outputs["labels"][0][:n]) == kept.labels.numpy()
  boxes = np.abs(np.asarray(outputs["boxes"][0][:n]) - kept.bboxes.numpy())[same].max()
  print(f"{int(same.sum())} of {n} detections in the same place of the list; their boxes differ by {boxes:.1e} pixels")
  sys.exit(f"the largest difference is {worst:.1e}; at most 1e-4 is allowed" if not worst <= 1e-4 else 0)


if __name__ == "__main__":
  main()
