"""Makes segmentation.npz: MMSegmentation's IoU and accuracies, and the best class of logits that torch has resampled.

PYTHONPATH=. python tests/golden/make_segmentation.py     (torch, mmsegmentation 1.2.2, mmengine, mmcv_lite 2.1)
"""

import pathlib

import numpy as np
import segmentation_cases as cases
import torch
from mmseg.evaluation.metrics.iou_metric import IoUMetric


def metrics() -> dict[str, np.ndarray]:
  pairs = [(torch.from_numpy(found), torch.from_numpy(truth)) for found, truth in cases.maps()]
  areas = [IoUMetric.intersect_and_union(found, truth, cases.N_CLASSES, 255) for found, truth in pairs]
  return IoUMetric.total_area_to_metrics(*(sum(area) for area in zip(*areas)))


def views() -> dict[str, np.ndarray]:
  made = {}
  for index, (logits, (extent, size)) in enumerate(zip(cases.logits(), cases.VIEWS)):
    inside = torch.from_numpy(logits[None, : extent[0], : extent[1]]).permute(0, 3, 1, 2)
    resampled = torch.nn.functional.interpolate(inside, size, mode="bilinear", align_corners=False)[0]
    best, second = resampled.topk(2, 0).values
    assert (best - second).min() > 1e-5, "a tie, which rounding decides: take other logits"
    made[f"view{index}"] = resampled.argmax(0).numpy().astype(np.uint8)
  return made


if __name__ == "__main__":
  np.savez_compressed(pathlib.Path(__file__).with_name("segmentation.npz"), **metrics(), **views())
