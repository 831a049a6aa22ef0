"""The table of detectors: how each is fed, where its weights come from, and who measured them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_compress.models.rows import DenseRow


@dataclass(frozen=True, kw_only=True)
class DetectorRow(DenseRow):
  """A row: called, it is the ModelSpec. Pictures get a shorter side of `resize` and a longer of at most `longest`."""

  classes: str = "coco91"
  resize: int = 800
  longest: int = 1333
  multiple: int = 32
  own_rates: tuple[tuple[str, float], ...] = ()

  def __call__(self) -> Any:
    from robust_compress.models import dense

    side = -(-self.longest // self.multiple) * self.multiple
    fields = self.shared("detection", "AP", (side, side))
    return dense.Detector(**fields, own_loss=dense.own_loss, own_rates=self.own_rates)


def _faster_rcnn(name: str, file: str, n_params: int, ap: float, fixed: str, **more: Any) -> DetectorRow:
  """`fixed` is what torchvision does not train: the first stages, and where they are frozen, the trunk's norms."""
  source, read_at = f"torchvision:fasterrcnn_{file}.pth", "torchvision 0.28, weights.meta['_metrics']"
  more |= {"score": ap, "read_at": read_at, "own_rates": ((f"params/body/({fixed})", 0.0),)}
  return DetectorRow(f"fasterrcnn_{name}.tv_coco", f"faster_rcnn:{name}", source, n_params, **more)


def _detr(name: str, n_params: int, ap: float) -> DetectorRow:
  """The stem, the first stage and the trunk's norms are not trained, as in the release."""
  repository = f"facebook/detr-{name.replace('resnet', 'resnet-').replace('_', '-')}"
  source, read_at = f"hub:{repository}", "README.md of facebookresearch/detr, Model Zoo"
  more = {"score": ap, "read_at": read_at, "reading": "READING"}
  more["own_rates"] = ((r"params/backbone/(conv1|layer1_|.*(bn\d|downsample_1)/)", 0.0),)
  return DetectorRow(f"detr_{name}.coco", f"detr:detr_{name}", source, n_params, **more)


_MOBILENET = {"fixed": "stem|blocks_[0-2]_|.*/bn/", "rules": "MOBILENET_RULES", "reading": "MOBILENET_READING"}
_MOBILENET_320 = {**_MOBILENET, "resize": 320, "longest": 640}
_RESNET = {"fixed": r"conv1|layer1_|.*(bn\d|downsample_1)/", "reading": "READING"}
_RESNET_V2 = {"fixed": "conv1|bn1|layer1_", "rules": "V2_RULES"}

_DDOD = DetectorRow(
  "ddod_r50_fpn.mmdet_coco",
  "ddod:DDOD",
  "mmdet:ddod_r50_fpn_1x_coco_20220523_223737-29b2fc67.pth",
  32_378_302,
  classes="coco80",
  score=41.7,
  read_at="MMDetection 3.3.0, configs/ddod/README.md",
  own_rates=(("params/backbone/(conv1|bn1|layer1_)", 0.0),),  # the stem and the first stage are never trained
)


def _nano(name: str, source: str, classes: str) -> DetectorRow:
  """shipped/ has the file and its card; configs/scenes_dense.py trained it."""
  builder, side = "nano_detector:nano_detector", 160
  return DetectorRow(name, builder, source, 388_390, classes=classes, resize=side, longest=side)


DETECTORS: tuple[DetectorRow, ...] = (
  _nano("nano_det.scenes", "file:871c05b157732e1af6218fb8143f46afb2ce8dbbaef46ece79f1f9c81f7c59af", "scenes10"),
  _nano("nano_det.random", "random", "source"),
  _detr("resnet50", 41_577_888, 42.0),
  _detr("resnet101", 60_570_016, 43.5),
  _detr("resnet101_dc5", 60_570_016, 44.9),
  _faster_rcnn("resnet50_fpn", "resnet50_fpn_coco-258fb6c6", 41_808_406, 37.0, **_RESNET),
  _faster_rcnn("resnet50_fpn_v2", "resnet50_fpn_v2_coco-dd69338a", 43_712_278, 46.7, **_RESNET_V2),
  _faster_rcnn("mobilenet_v3_large_fpn", "mobilenet_v3_large_fpn-fb6a3cc7", 19_410_754, 32.8, **_MOBILENET),
  _faster_rcnn("mobilenet_v3_large_320_fpn", "mobilenet_v3_large_320_fpn-907ea3f9", 19_410_754, 22.8, **_MOBILENET_320),
  _DDOD,
)
