"""Writes the goldens of DDOD, in an environment with torch, torchvision, numpy and MMDetection 3.3.0 (made with torch
2.13, mmengine 0.10.7, mmcv-lite 2.2.0):

PYTHONPATH=.:tests python tests/golden/make_ddod.py

ddod.npz   deform/    a deformable convolution and its gradients, by PyTorch's grid_sample
           alone/     what the reduced network's head says of each picture alone, and the detections made of it
           trained/   losses of two steps in a row on the same weights, gradients of the first (as in models/)
           assigned/  labels of anchors, and losses, from a head's seeded answers on pictures that leave anchors out
ddod.json  number and digest of the keys and shapes of the published network
"""

import json
from pathlib import Path

import ddod_cases as cases
import mmdet_reference
import numpy as np
import reference
import seeded
import torch

HERE = Path(__file__).parent


def deform() -> dict[str, np.ndarray]:
  x, offsets, kernel = cases.deformed()
  given = [x.transpose(0, 3, 1, 2), offsets.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)]
  given = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in given]
  y = mmdet_reference.deform_conv2d(*given)
  (y * torch.from_numpy(seeded.normal("y", tuple(y.shape)))).sum().backward()
  found = {"y": y.detach()} | {name: value.grad for name, value in zip(("x", "offsets", "kernel"), given, strict=True)}
  return {name: value.numpy().astype(np.float32) for name, value in found.items()}


def alone(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """Of pictures one by one, each on the canvas."""
  found = {}
  for i, (picture, size) in enumerate(zip(cases.image(), cases.SIZES.tolist(), strict=True)):
    raw = model(torch.from_numpy(picture[None]).permute(0, 3, 1, 2), mode="tensor")
    for name, levels in zip(("logits", "deltas", "iou"), raw, strict=True):
      found[f"{i}/{name}"] = torch.cat([x[0].flatten(1).T for x in levels])
    [detected] = model.bbox_head.predict_by_feat(*raw, batch_img_metas=[{"img_shape": tuple(size)}])
    found |= {f"{i}/boxes": detected.bboxes, f"{i}/scores": detected.scores, f"{i}/labels": detected.labels}
  return {name: value.numpy() for name, value in found.items()}


def trained(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """In double precision as far as MMDetection goes along: single can fall off the edge of a ReLU."""
  model.double().train()
  x = torch.from_numpy(cases.image()).double().permute(0, 3, 1, 2)
  metas = [{"img_shape": tuple(size), "pad_shape": cases.CANVAS} for size in cases.SIZES.tolist()]
  found = {}
  for step in range(2):
    model.zero_grad()
    losses = model.bbox_head.loss_by_feat(*model(x, mode="tensor"), mmdet_reference.instances(cases.OBJECTS), metas)
    losses = {name: sum(levels) for name, levels in losses.items()}
    found |= {f"{step}/{name}": value.detach().float().numpy() for name, value in losses.items()}
    if step == 0:
      sum(losses.values()).backward()
      for key, value in model.named_parameters():
        found[f"gradient/{key}"] = seeded.told(key, value.grad.numpy())
  return found


def assigned(head: torch.nn.Module) -> dict[str, np.ndarray]:
  """Labels of both assignments with -1 for none and -2 for anchors left out, boxes that are learned, losses."""
  maps = [[torch.from_numpy(part).permute(0, 3, 1, 2) for part in level] for level in cases.said()]
  logits, deltas, iou = (list(parts) for parts in zip(*maps, strict=True))
  sizes = cases.WIDE_SIZES.tolist()
  metas = [{"img_shape": tuple(size), "pad_shape": tuple(-(-n // 32) * 32 for n in size)} for size in sizes]
  boxes = mmdet_reference.instances(cases.WIDE_OBJECTS)
  common = head.process_predictions_and_anchors(
    *head.get_anchors([x.shape[2:] for x in logits], metas, device="cpu"), logits, deltas, metas, None
  )
  common = (*common[:-1], boxes, metas, common[-1])
  found = {}
  for name, targets in (("class", head.get_cls_targets), ("box", head.get_reg_targets)):
    _, labels, weights, learned, _, n = targets(*common)
    labels, weights, learned = (torch.cat(list(levels), 1) for levels in (labels, weights, learned))
    found[f"{name}/labels"] = torch.where(weights > 0, torch.where(labels < cases.N_CLASSES, labels, -1), -2)
    found[f"{name}/deltas"], found[f"{name}/n"] = learned[found[f"{name}/labels"] >= 0], torch.tensor(n)
  head.cls_num_pos_samples_per_level = [0.0] * len(cases.LEVELS)
  losses = head.loss_by_feat(logits, deltas, iou, boxes, metas)
  found |= {name: sum(levels) for name, levels in losses.items()}
  return {name: value.numpy() for name, value in found.items()}


def main() -> None:
  model = mmdet_reference.detector()
  reference.load(model, cases.weights(reference.shapes(model)))
  with torch.no_grad():
    parts = {"deform": None, "alone": alone(model), "assigned": assigned(model.bbox_head.train())}
  reference.load(model, cases.weights(reference.shapes(model)))
  model.bbox_head.cls_num_pos_samples_per_level = [0.0] * len(cases.LEVELS)
  parts |= {"deform": deform(), "trained": trained(model)}
  found = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
  np.savez_compressed(HERE / "ddod.npz", **found)
  print(f"ddod.npz: {(HERE / 'ddod.npz').stat().st_size} bytes")
  with torch.device("meta"):
    shapes = reference.shapes(mmdet_reference.detector(reduced=False))
  (HERE / "ddod.json").write_text(json.dumps([len(shapes), seeded.digest(shapes)]) + "\n")


if __name__ == "__main__":
  main()
