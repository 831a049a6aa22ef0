"""The other side of `dense.py`: the network of transformers or torchvision in PyTorch, from a tensor to its answer.

    python benchmarks/torch_dense.py MODEL BATCH HEIGHT WIDTH CANVAS_HEIGHT CANVAS_WIDTH VIEW_HEIGHT VIEW_WIDTH

Says its versions, or what is 'missing', then answers every line, a number of steps, with the seconds that they take.
Needs torch, and for DETR and UPerNet transformers (DETR timm too), for Faster R-CNN torchvision with its compiled part,
and nothing of this project. Weights are random. All is as a user has it by default: contiguous tensors, inference mode,
no compilation, a thread a core; answers are brought to the view's size as the library does it. UPerNet goes without the
head that is for training, which transformers computes even where nobody asks for it.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import torch

Size = tuple[int, int]


def detr(n: int, size: Size, canvas: Size, view: Size) -> Callable[[], object]:
  from transformers import DetrConfig, DetrForObjectDetection

  network = DetrForObjectDetection(DetrConfig(backbone="resnet50", num_labels=91)).eval()
  mask = torch.zeros(n, *canvas, dtype=torch.int64)
  mask[:, : size[0], : size[1]] = 1
  picture = torch.randn(n, 3, *canvas) * mask[:, None]
  scale = torch.tensor([view[1], view[0], view[1], view[0]], dtype=torch.float32)

  def step() -> object:
    found = network(picture, mask)
    scores, labels = found.logits.softmax(-1)[..., :-1].max(-1)
    centre, half = found.pred_boxes[..., :2], found.pred_boxes[..., 2:] / 2
    return scores, labels, torch.cat([centre - half, centre + half], -1) * scale

  return step


def faster_rcnn(n: int, size: Size, canvas: Size, view: Size) -> Callable[[], object]:
  """torchvision resizes, normalises and pads by itself; given pictures of the right size it leaves that as it is."""
  import torchvision
  from torchvision.models.detection import fasterrcnn_resnet50_fpn
  from torchvision.models.detection.transform import resize_boxes

  torchvision.extension._assert_has_ops()
  options = {"weights": None, "weights_backbone": None, "min_size": min(size), "max_size": max(size)}
  network = fasterrcnn_resnet50_fpn(**options).eval()
  pictures = [torch.rand(3, *size) for _ in range(n)]
  return lambda: [resize_boxes(found["boxes"], size, view) for found in network(pictures)]


def upernet(n: int, size: Size, canvas: Size, view: Size) -> Callable[[], object]:
  from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

  widths = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
  backbone = SwinConfig(out_features=[f"stage{i}" for i in range(1, 5)], **widths)
  config = UperNetConfig(backbone_config=backbone, num_labels=150, use_auxiliary_head=False)
  network, picture = UperNetForSemanticSegmentation(config).eval(), torch.randn(n, 3, *canvas)

  def step() -> object:
    logits = network(picture).logits[..., : size[0], : size[1]]
    return torch.nn.functional.interpolate(logits, view, mode="bilinear", align_corners=False).argmax(1)

  return step


NETWORKS = {"detr_resnet50": detr, "fasterrcnn_resnet50_fpn": faster_rcnn, "upernet_swin_tiny": upernet}
LIBRARIES = ("torch", "transformers", "torchvision", "timm")


def main(model: str, n: str, *sides: str) -> None:
  torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
  size, canvas, view = zip(map(int, sides[::2]), map(int, sides[1::2]), strict=True)
  try:
    step = NETWORKS[model.partition(".")[0]](int(n), size, canvas, view)
  except (ImportError, RuntimeError, AttributeError) as error:
    return print(json.dumps({"missing": f"{type(error).__name__}: {error}"}), flush=True)
  versions = {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules}
  print(json.dumps({**versions, "threads": torch.get_num_threads()}), flush=True)
  with torch.inference_mode():
    for line in sys.stdin:
      start = time.perf_counter()
      for _ in range(int(line)):
        step()
      print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
