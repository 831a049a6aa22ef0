"""Faster R-CNN at full size against torchvision, on the same seeded weights and one picture:

    PYTHONPATH=. python tests/golden/check_faster_rcnn.py [name …]

Runs in an environment with this project, torch and torchvision; some minutes on two cores, 6 GB of memory. Says how far
apart the first stage's answers are, and which share of the reference's proposals and detections has ours within a
hundredth of a pixel (and, of detections, the same class and a score within 1e-4): thousands of choices at
thresholds are made, of which rounding turns some. Fails beyond 1e-4 · max(1, max |answer|), and under 0.98.
"""

import sys
import time
from functools import partial

import jax
import make_faster_rcnn
import numpy as np
import reference
import seeded
import torch
from torchvision.models.detection import image_list, rpn

from robust_compress import convert, models
from robust_compress.models import rpn as ours_rpn

VARIANTS = {
  "fasterrcnn_resnet50_fpn.tv_coco": ("v1", {}),
  "fasterrcnn_resnet50_fpn_v2.tv_coco": ("v2", {}),
  "fasterrcnn_mobilenet_v3_large_fpn.tv_coco": ("mobile", {"rpn_score_thresh": 0.05}),
  "fasterrcnn_mobilenet_v3_large_320_fpn.tv_coco": (
    "mobile",
    {"rpn_score_thresh": 0.05, "rpn_pre_nms_top_n_test": 150, "rpn_post_nms_top_n_test": 150},
  ),
}
SIZE = (372, 500)  # padded to 384 by 512, so that the last map has an even number of rows


def theirs(model: torch.nn.Module, picture: np.ndarray) -> dict[str, np.ndarray]:
  images = image_list.ImageList(torch.from_numpy(picture).permute(0, 3, 1, 2), [SIZE])
  with torch.inference_mode():
    maps = model.backbone(images.tensors)
    logits, deltas = rpn.concat_box_prediction_layers(*model.rpn.head(list(maps.values())))
    proposals, _ = model.rpn(images, maps)
    [found], _ = model.roi_heads(maps, proposals, images.image_sizes)
  answers = {"logits": logits[:, 0], "deltas": deltas, "proposals": proposals[0], **found}
  return {key: value.numpy() for key, value in answers.items()}


def ours(module, image, sizes):
  maps = module.fpn(module.body(image, False), False)
  raw = module.raw(maps, sizes)
  return raw, ours_rpn.propose(raw, sizes, module.first, False), module(image, sizes, None, train=False)


def share(expected: np.ndarray, actual: np.ndarray, tolerance: np.ndarray) -> float:
  """Of the rows expected, those that have one like them."""
  return float(np.mean([(np.abs(row - actual) <= tolerance).all(1).any() for row in expected]))


def check(name: str) -> tuple[float, float, float, int]:
  """(difference of the first stage, shares of proposals and detections, number of detections)."""
  variant, options = VARIANTS[name]
  model, network = models.load_model(name), make_faster_rcnn.detector(variant, None, **options)
  arrays = seeded.state_dict(reference.shapes(network))
  arrays["roi_heads.box_predictor.cls_score.weight"] *= 20  # so that some of 91 classes stand out
  reference.load(network, arrays)
  variables = convert.to_variables(arrays, model.reading or model.rules, models.template(model), name)
  picture = seeded.picture((384, 512), 1)
  picture[:, SIZE[0] :] = picture[:, :, SIZE[1] :] = 0
  expected = theirs(network, picture)
  with jax.default_matmul_precision("highest"):
    raw, proposals, found = jax.jit(partial(model.module().apply, method=ours))(
      variables, picture, np.array([SIZE], np.int32)
    )
  gaps = []
  for key, values in (("logits", raw.logits), ("deltas", raw.deltas)):
    values = np.concatenate([np.asarray(x[0]) for x in values])
    gaps.append(np.abs(values - expected[key]).max() / max(1.0, np.abs(expected[key]).max()))
  rows = [np.concatenate([x["boxes"], x["scores"][:, None], x["labels"][:, None]], 1) for x in (expected, one(found))]
  return (
    float(max(gaps)),
    share(expected["proposals"], np.asarray(proposals.boxes[0]), np.full(4, 0.01)),
    share(*rows, np.array([0.01] * 4 + [1e-4, 0])),
    len(rows[0]),
  )


def one(found: dict) -> dict[str, np.ndarray]:
  return {key: np.asarray(value[0]) for key, value in found.items()}


def main(names: list[str]) -> None:
  make_faster_rcnn.complete()
  failed = []
  for name in names or VARIANTS:
    start = time.time()
    gap, proposals, detections, n = check(name)
    shares = f"proposals {proposals:.4f}  detections {detections:.4f} of {n}"
    print(f"{name:48} {gap:.1e}  {shares}  {time.time() - start:.0f} s", flush=True)
    if gap > 1e-4 or min(proposals, detections) < 0.98:
      failed.append(name)
  sys.exit(f"{', '.join(failed)}: too far from the reference" if failed else 0)


if __name__ == "__main__":
  main(sys.argv[1:])
