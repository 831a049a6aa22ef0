"""Writes the goldens of Faster R-CNN, in an environment with torch, torchvision and numpy:

PYTHONPATH=. python tests/golden/make_faster_rcnn.py

faster_rcnn.npz   for each reduced network on seeded weights: what both stages say, proposals, detections; losses and
                  gradients (as in models/); parts on their own: matcher, anchors, RoIAlign
faster_rcnn.json  number and digest of the keys and shapes of every variant, and of those that it trains

All of it is torchvision's own code, RoIAlign as well (its version in Python where the compiled one is missing). Only
suppression within one class has no version in Python: where the compiled one is missing, it is written out below.
"""

import json
import sys
from pathlib import Path

import faster_rcnn_cases as cases
import numpy as np
import reference
import seeded
import torch
import torchvision
from torchvision.models.detection import _utils, anchor_utils, backbone_utils, faster_rcnn, image_list, rpn
from torchvision.ops import MultiScaleRoIAlign, box_iou, misc

HERE = Path(__file__).parent
TRAINABLE = 3  # stages of the trunk, unless one says otherwise


def suppress(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
  """Greedy suppression by its definition: indices of what stays, best first."""
  kept: list[int] = []
  for i in torch.sort(scores, descending=True, stable=True).indices.tolist():
    if not kept or (box_iou(boxes[i][None], boxes[kept]) <= iou_threshold).all():
      kept.append(i)
  return torch.tensor(kept, dtype=torch.int64)


def complete() -> None:
  """Gives torchvision what it lacks without its compiled part."""
  if not torchvision.extension._has_ops():
    torch.library.impl("torchvision::nms", "CPU", suppress)
    torchvision.ops.boxes._assert_has_ops = lambda: None
    module = sys.modules["torchvision.ops.roi_align"]
    module._roi_align = module._roi_align.__wrapped__  # as it stands, not compiled


def backbone(name: str, width: int | None) -> torch.nn.Module:
  """The trunk and pyramid of a case; with no width those of the published network."""
  frozen = misc.FrozenBatchNorm2d
  if name == "mobile":
    net = torchvision.models.mobilenet_v3_large(norm_layer=frozen, width_mult=cases.MOBILE_MULTIPLIER if width else 1.0)
    if width is None:
      return backbone_utils._mobilenet_extractor(net, True, TRAINABLE)
    channels = [net.features[i].out_channels for i in (13, 16)]
    return backbone_utils.BackboneWithFPN(net.features, {"13": "0", "16": "1"}, channels, width)
  norm = {"norm_layer": frozen} if name == "v1" else {}
  pyramid = {"norm_layer": torch.nn.BatchNorm2d} if name == "v2" else {}
  if width is None:
    return backbone_utils._resnet_fpn_extractor(torchvision.models.resnet50(**norm), TRAINABLE, **pyramid)
  block = torchvision.models.resnet.Bottleneck if name == "v2" else torchvision.models.resnet.BasicBlock
  net = torchvision.models.ResNet(block, [1, 1, 1, 1], **norm)
  channels = [64 * 2**i * block.expansion for i in range(4)]
  return backbone_utils.BackboneWithFPN(net, {f"layer{i + 1}": str(i) for i in range(4)}, channels, width, **pyramid)


def detector(name: str, width: int | None = cases.WIDTH, **options) -> torch.nn.Module:
  """Reduced to a width, or as published, with keyword arguments of FasterRCNN."""
  dense, n_classes = (cases.DENSE, cases.N_CLASSES) if width else (1024, 91)
  inner = width or 256
  if name == "mobile":
    options["rpn_anchor_generator"] = anchor_utils.AnchorGenerator(cases.MOBILE_ANCHORS, ((0.5, 1.0, 2.0),) * 3)
  if name == "v2":
    options["rpn_head"] = rpn.RPNHead(inner, 3, conv_depth=2)
    norm = {"norm_layer": torch.nn.BatchNorm2d}
    options["box_head"] = faster_rcnn.FastRCNNConvFCHead((inner, 7, 7), [inner] * 4, [dense], **norm)
  else:
    options["box_head"] = faster_rcnn.TwoMLPHead(inner * 49, dense)
  options["box_predictor"] = faster_rcnn.FastRCNNPredictor(dense, n_classes)
  model = faster_rcnn.FasterRCNN(backbone(name, width), **options)
  if name == "v1":
    _utils.overwrite_eps(model, 0.0)
  return model.eval()


def reduced(name: str) -> torch.nn.Module:
  options = {f"rpn_pre_nms_top_n_{k}": n for k, n in zip(("train", "test"), cases.N_BEFORE, strict=True)}
  options |= {f"rpn_post_nms_top_n_{k}": n for k, n in zip(("train", "test"), cases.N_AFTER, strict=True)}
  options |= {"rpn_batch_size_per_image": cases.ALL, "box_batch_size_per_image": cases.ALL}
  options |= {"rpn_score_thresh": cases.CASES[name].least, "box_detections_per_img": cases.N_DETECTIONS}
  model = detector(name, **options)
  reference.load(model, seeded.state_dict(reference.shapes(model)))
  return model


def pictures(dtype: torch.dtype) -> image_list.ImageList:
  tensor = torch.from_numpy(cases.padded(seeded.picture(cases.CANVAS, 2))).permute(0, 3, 1, 2).to(dtype)
  return image_list.ImageList(tensor, [tuple(size) for size in cases.SIZES.tolist()])


def evaluated(model: torch.nn.Module) -> dict[str, np.ndarray]:
  images, found = pictures(torch.float32), {}
  maps = model.backbone(images.tensors)
  logits, deltas = rpn.concat_box_prediction_layers(*model.rpn.head(list(maps.values())))
  found["rpn/logits"], found["rpn/deltas"] = logits.reshape(2, -1), deltas.reshape(2, -1, 4)[:, ::7]
  proposals, _ = model.rpn(images, maps)
  regions = model.roi_heads.box_head(model.roi_heads.box_roi_pool(maps, proposals, images.image_sizes))
  found["box/logits"], found["box/deltas"] = model.roi_heads.box_predictor(regions)
  detections, _ = model.roi_heads(maps, proposals, images.image_sizes)
  for i, (boxes, detected) in enumerate(zip(proposals, detections, strict=True)):
    found[f"proposals/{i}"] = boxes
    found |= {f"detections/{i}/{key}": value for key, value in detected.items()}
  return {key: value.numpy() for key, value in found.items()}


def trained(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """Losses and gradients with fixed norms, in double precision: single can fall off the edge of a ReLU."""
  images = pictures(torch.float64)
  model.double().train()
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.eval()
  targets = [
    {"boxes": torch.from_numpy(boxes).double(), "labels": torch.tensor(labels)} for boxes, labels in cases.OBJECTS
  ]
  maps = model.backbone(images.tensors)
  proposals, losses = model.rpn(images, maps, targets)
  losses |= model.roi_heads(maps, proposals, images.image_sizes, targets)[1]
  sum(losses.values()).backward()
  found = {f"losses/{key.removeprefix('loss_')}": value.detach().float().numpy() for key, value in losses.items()}
  for key, value in model.named_parameters():
    found[f"gradient/{key}"] = seeded.told(key, value.grad.numpy())
  return found


def parts() -> dict[str, np.ndarray]:
  """Matcher, anchors and RoIAlign on seeded boxes and maps."""
  objects, boxes = (
    torch.from_numpy(cases.boxes_of(seeded.normal(name, (n, 4)))) for name, n in (("objects", 6), ("boxes", 200))
  )
  found = {}
  for name, matcher in (("rpn", _utils.Matcher(0.7, 0.3, True)), ("roi", _utils.Matcher(0.5, 0.5, False))):
    found[f"match/{name}"] = matcher(box_iou(objects, boxes))
  found["encoded"] = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(objects, boxes[:6])
  maps = {str(i): torch.from_numpy(seeded.normal(f"map {i}", (1, 2, 96 >> i, 128 >> i))) for i in range(2, 6)}
  pool = MultiScaleRoIAlign(list(maps), 7, 2)
  found["pooled"] = pool(maps, [boxes[:40]], [(96, 128)]).permute(0, 2, 3, 1)
  generate = faster_rcnn._default_anchorgen()  # a picture of 160 by 96: its last map of 3 by 2 has odd strides
  shapes = [torch.zeros(1, 1, -(-160 // stride), -(-96 // stride)) for stride in (4, 8, 16, 32, 64)]
  anchors = generate(image_list.ImageList(torch.zeros(1, 3, 160, 96), [(150, 90)]), shapes)[0]
  found["anchors"] = anchors[-3 * (5 * 3 + 3 * 2) :]
  return {f"parts/{key}": value.numpy() for key, value in found.items()}


def layouts() -> dict[str, dict[str, list]]:
  """{variant: {'all', 'trained': [number of arrays, digest of keys and shapes]}} of the published networks."""
  listed = {}
  for name in cases.CASES:
    with torch.device("meta"):
      model = detector(name, None)
    trained = {key: tuple(value.shape) for key, value in model.named_parameters() if value.requires_grad}
    sets = {"all": reference.shapes(model), "trained": trained}
    listed[name] = {key: [len(shapes), seeded.digest(shapes)] for key, shapes in sets.items()}
  return listed


def main() -> None:
  complete()
  found = parts()
  for name in cases.CASES:
    model = reduced(name)
    with torch.no_grad():
      numbers = evaluated(model)
    found |= {f"{name}/{key}": value for key, value in (numbers | trained(model)).items()}
  np.savez_compressed(HERE / "faster_rcnn.npz", **found)
  print(f"faster_rcnn.npz: {(HERE / 'faster_rcnn.npz').stat().st_size} bytes")
  (HERE / "faster_rcnn.json").write_text(json.dumps(layouts(), indent=1) + "\n")


if __name__ == "__main__":
  main()
