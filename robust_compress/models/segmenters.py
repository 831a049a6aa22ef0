"""The table of segmenters: how each is fed, where its weights come from, and who measured them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from robust_compress.types import InputSpec, Published, Weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class SegmenterRow:
  """A row: called, it is the ModelSpec. Pictures are padded to `multiple`s, or to `size` where they differ."""

  name: str
  builder: str  # 'file:function' in this folder; the file has RULES too
  source: str
  n_params: int
  size: tuple[int, int]
  classes: str
  resize: int | tuple[int, int] | None = None
  longest: int | None = None
  multiple: int = 1
  window: tuple[int, int] | None = None  # side and stride of windows on larger pictures
  miou: float | None = None  # per cent, as published
  read_at: str = ""
  rules: str = "RULES"
  normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
  reading: str = ""
  loss: str = ""  # the name of a loss of its own; '': the task's

  def __call__(self) -> Any:
    from robust_compress.models import dense

    file, function = self.builder.split(":")
    module = importlib.import_module(f"robust_compress.models.{file}")
    return dense.Segmenter(
      name=self.name,
      task="segmentation",
      build=getattr(module, function),
      input=InputSpec(
        self.size, self.resize, "bilinear", *self.normalisation,
        fit="pad", longest=self.longest, multiple=self.multiple,
      ),
      base=Weights(self.source),
      rules=getattr(module, self.rules),
      reading=getattr(module, self.reading) if self.reading else (),
      classes=self.classes,
      n_params=self.n_params,
      published=None if self.miou is None else Published("mIoU", round(self.miou / 100, 5), self.read_at),
      own_loss=getattr(module, self.loss) if self.loss else None,
      window=self.window,
    )  # fmt: skip


# The configuration of 769² pictures: Cityscapes at (1025, 2049), seen through windows.
_CITYSCAPES: dict[str, Any] = {
  "size": (1025, 2049),
  "resize": (1025, 2049),
  "classes": "cityscapes19",
  "window": (769, 513),
  "reading": "READING",
}
_ADE: dict[str, Any] = {"size": (512, 2048), "resize": 512, "longest": 2048, "multiple": 32, "classes": "ade150"}
_RAW = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # numbers from 0 to 255
_CAMVID: dict[str, Any] = {
  "size": (360, 480),
  "resize": (360, 480),
  "classes": "camvid11",
  "normalisation": _RAW,
  "loss": "camvid_loss",
}


def _mmseg(name: str, builder: str, file: str, n_params: int, miou: float, **more: Any) -> SegmenterRow:
  read_at = "MMSegmentation 1.2.2, configs/*/metafile.yaml, single scale"
  return SegmenterRow(name, builder, f"mmseg:{file}.pth", n_params, miou=miou, read_at=read_at, **more)


def _nano(name: str, source: str) -> SegmenterRow:
  """shipped/ has the file and its card; configs/scenes_dense.py trained it."""
  return SegmenterRow(
    name, "nano_segmenter:nano_segmenter", source, 387_667, (160, 160), "source", 160, 160, multiple=32
  )


SEGMENTERS: tuple[SegmenterRow, ...] = (
  _mmseg(
    "deeplabv3_r18-d8.mmseg_cityscapes769",
    "deeplab:deeplab_r18",
    "deeplabv3_r18-d8_769x769_80k_cityscapes_20201225_021506-6452126a",
    13_986_374,
    76.60,
    **_CITYSCAPES,
  ),
  _mmseg(
    "deeplabv3_r50-d8.mmseg_cityscapes769",
    "deeplab:deeplab_r50",
    "deeplabv3_r50-d8_769x769_40k_cityscapes_20200606_113723-7eda553c",
    68_113_030,
    78.58,
    **_CITYSCAPES,
  ),
  _mmseg(
    "deeplabv3_r101-d8.mmseg_cityscapes769",
    "deeplab:deeplab_r101",
    "deeplabv3_r101-d8_769x769_40k_cityscapes_20200606_113809-c64f889f",
    87_105_158,
    79.27,
    **_CITYSCAPES,
  ),
  _mmseg(
    "upernet_r50.mmseg_cityscapes769",
    "upernet:upernet_r50",
    "upernet_r50_769x769_40k_cityscapes_20200530_033048-92d21539",
    66_415_238,
    77.98,
    **_CITYSCAPES,
  ),
  _mmseg(
    "upernet_r101.mmseg_cityscapes769",
    "upernet:upernet_r101",
    "upernet_r101_769x769_40k_cityscapes_20200530_040819-83c95d01",
    85_407_366,
    79.03,
    **_CITYSCAPES,
  ),
  _mmseg(
    "upernet_swin_tiny.mmseg_ade20k",
    "upernet:upernet_swin_tiny",
    "upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K_20210531_112542-e380ad3e",
    59_941_862,
    44.41,
    rules="SWIN_RULES",
    reading="SWIN_READING",
    **_ADE,
  ),
  SegmenterRow(
    "upernet_swin_tiny.hf_ade20k",
    "upernet:upernet_swin_tiny",
    "hub:openmmlab/upernet-swin-tiny",
    59_941_862,
    rules="TRANSFORMERS_RULES",
    **_ADE,
  ),
  # Random, and trained from (start=FILE) of torchvision's vgg16_bn or vgg16; or from weights under its own names.
  SegmenterRow("segnet.vgg16_bn", "segnet:segnet", "random", 29_449_355, reading="VGG_BN_READING", **_CAMVID),
  SegmenterRow("segnet.vgg16", "segnet:segnet", "random", 29_449_355, reading="VGG_READING", **_CAMVID),
  SegmenterRow(
    "segnet_cityscapes.vgg16_bn",
    "segnet:segnet_cityscapes",
    "random",
    29_453_971,
    (512, 1024),
    "cityscapes19",
    resize=(512, 1024),
    normalisation=_RAW,
    reading="VGG_BN_READING",
  ),
  _nano("nano_seg.scenes", "file:70c96a4f14f22bccd1717c407230ea88bdd45624524f6c113a922abece9f4d38"),
  _nano("nano_seg.random", "random"),
)
