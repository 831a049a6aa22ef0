"""The table of segmenters: how each is fed, where its weights come from, and who measured them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_compress.models.rows import DenseRow, Normalisation


@dataclass(frozen=True, kw_only=True)
class SegmenterRow(DenseRow):
  """A row: called, it is the ModelSpec. Pictures are padded to `multiple`s, or to `size` where they differ."""

  size: tuple[int, int]
  window: tuple[int, int] | None = None  # side and stride of windows on larger pictures
  loss: str = ""  # the name of a loss of its own; '': the task's

  def __call__(self) -> Any:
    from robust_compress.models import dense

    own_loss = getattr(self.module(), self.loss) if self.loss else None
    return dense.Segmenter(**self.shared("segmentation", "mIoU", self.size), own_loss=own_loss, window=self.window)


# The configuration of 769² pictures: Cityscapes at (1025, 2049), seen through windows.
_CITYSCAPES: dict[str, Any] = {
  "size": (1025, 2049),
  "resize": (1025, 2049),
  "classes": "cityscapes19",
  "window": (769, 513),
  "reading": "READING",
}
_ADE: dict[str, Any] = {"size": (512, 2048), "resize": 512, "longest": 2048, "multiple": 32, "classes": "ade150"}
_RAW: Normalisation = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # numbers from 0 to 255
_CAMVID: dict[str, Any] = {
  "size": (360, 480),
  "resize": (360, 480),
  "classes": "camvid11",
  "normalisation": _RAW,
  "loss": "camvid_loss",
}


def _mmseg(name: str, builder: str, file: str, n_params: int, miou: float, **more: Any) -> SegmenterRow:
  read_at = "MMSegmentation 1.2.2, configs/*/metafile.yaml, single scale"
  return SegmenterRow(name, builder, f"mmseg:{file}.pth", n_params, score=miou, read_at=read_at, **more)


def _nano(name: str, source: str, classes: str) -> SegmenterRow:
  """shipped/ has the file and its card; configs/scenes_dense.py trained it."""
  builder, side = "nano_segmenter:nano_segmenter", 160
  geometry: dict[str, Any] = {"size": (side, side), "resize": side, "longest": side, "multiple": 32}
  return SegmenterRow(name, builder, source, 387_667, classes=classes, **geometry)


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
    size=(512, 1024),
    classes="cityscapes19",
    resize=(512, 1024),
    normalisation=_RAW,
    reading="VGG_BN_READING",
  ),
  _nano("nano_seg.scenes", "file:70c96a4f14f22bccd1717c407230ea88bdd45624524f6c113a922abece9f4d38", "scenes11"),
  _nano("nano_seg.random", "random", "source"),
)
