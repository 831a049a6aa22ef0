"""The models that exist: an architecture, a tag for its weights, how these are fed, and who measured them.

    load_model('resnet50.a1_in1k') ──▶ ModelSpec ──load_weights──▶ {'params': …, 'batch_stats': …}

Classifiers stand here, detectors in `detectors.py`, segmenters in `segmenters.py`. Names of classifiers are timm's, tag
included. A row of theirs holds what timm's own configuration (1.0.31) and torchvision's (0.28) say of
evaluation at 224 pixels: `resize` is floor(224 / crop_pct). Scores stand beside the rows they were read from.
The files of the architectures are imported when a model is loaded, so that listing needs no jax.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from robust_compress import specs
from robust_compress.models.callable import as_model, from_callable
from robust_compress.models.detectors import DETECTORS
from robust_compress.models.export import export
from robust_compress.models.rows import IMAGENET, Normalisation
from robust_compress.models.segmenters import SEGMENTERS
from robust_compress.models.weights import load_weights, n_params, template
from robust_compress.types import InputSpec, ModelSpec, Published, Weights

__all__ = ["MODELS", "Classifier", "export", "from_callable", "load_model", "load_weights", "n_params", "template"]

_TIMM = "results/results-imagenet.csv of huggingface/pytorch-image-models, commit 4e5207c7"
_TORCHVISION = "torchvision 0.28, weights.meta['_metrics']"
_HALF = {"normalisation": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}  # ViT's pictures run from -1 to 1


@dataclass(frozen=True)
class Classifier:
  """A row of the table: called, it is the ModelSpec."""

  name: str
  builder: str  # 'file:function' in this folder; the file has RULES too
  source: str  # of the base weights
  resize: int | None
  interpolation: str
  n_params: int
  top1: float | None = None  # percent, as published
  read_at: str = _TIMM
  normalisation: Normalisation = IMAGENET
  size: int = 224
  classes: str = "imagenet1k"
  rules: str = "RULES"

  def __call__(self) -> ModelSpec:
    file, function = self.builder.split(":")
    module = importlib.import_module(f"{__name__}.{file}")
    return ModelSpec(
      name=self.name,
      task="classification",
      build=getattr(module, function),
      input=InputSpec((self.size, self.size), self.resize, self.interpolation, *self.normalisation),
      base=Weights(self.source),
      rules=getattr(module, self.rules),
      classes=self.classes,
      n_params=self.n_params,
      published=None if self.top1 is None else Published("top1", round(self.top1 / 100, 5), self.read_at),
    )


def _timm(name: str, builder: str, resize: int, interpolation: str, n_params: int, top1: float, **more) -> Classifier:
  return Classifier(name, builder, f"timm:{name}", resize, interpolation, n_params, top1, **more)


def _tv(name: str, builder: str, file: str, resize: int, n_params: int, top1: float, **more) -> Classifier:
  source = f"torchvision:{file}.pth"
  return Classifier(name, builder, source, resize, "bilinear", n_params, top1, _TORCHVISION, **more)


_TV = {"rules": "TORCHVISION_RULES"}  # where torchvision's keys are not timm's
_V3_TV = "mobilenet_v3:mobilenet_v3_large_tv"

# TensorFlow's mobilenet_v2_1.0_224 with batch norm folded, as the npz of that content: HWIO kernels under names such as
# 'expanded_conv_3/depthwise/kernel'. Any other file of that layout is given as (weights=FILE).
_MOBILENET_V2_TF = Classifier(
  "mobilenet_v2_tf.in1k",
  "mobilenet_v2:mobilenet_v2_tf",
  "file:ba14c77eeb935e3537c48a721ff2947d74eba2d24cbb73ab6c05e39324debf9b",
  256,
  "bilinear",
  3_489_097,
  **_HALF,
  classes="imagenet1001",
  rules="TENSORFLOW_RULES",
)

# shipped/ has the file and its card; configs/scenes_classifier.py trained it.
_NANO_SCENES = "file:8d7881334f3c3f74bcc674395e7a5cdfe313084e013caaf7636793fa1dff4b36"

_ROWS: tuple[Classifier, ...] = (
  _timm("resnet18.a1_in1k", "resnet:resnet18", 235, "bicubic", 11_689_512, 71.504),
  _timm("resnet34.a1_in1k", "resnet:resnet34", 235, "bicubic", 21_797_672, 76.420),
  _timm("resnet50.a1_in1k", "resnet:resnet50", 235, "bicubic", 25_557_032, 80.382),
  _timm("resnet101.a1_in1k", "resnet:resnet101", 235, "bicubic", 44_549_160, 81.494),
  _timm("resnet101.a1h_in1k", "resnet:resnet101", 235, "bicubic", 44_549_160, 81.950),
  _timm("resnet152.a1_in1k", "resnet:resnet152", 235, "bicubic", 60_192_808, 81.998),
  _timm("resnet152.a1h_in1k", "resnet:resnet152", 235, "bicubic", 60_192_808, 82.818),
  _tv("resnet18.tv_in1k", "resnet:resnet18", "resnet18-f37072fd", 256, 11_689_512, 69.758),
  _tv("resnet34.tv_in1k", "resnet:resnet34", "resnet34-b627a593", 256, 21_797_672, 73.314),
  _tv("resnet50.tv_in1k", "resnet:resnet50", "resnet50-0676ba61", 256, 25_557_032, 76.130),
  _tv("resnet50.tv2_in1k", "resnet:resnet50", "resnet50-11ad3fa6", 232, 25_557_032, 80.858),
  _tv("resnet101.tv_in1k", "resnet:resnet101", "resnet101-63fe2227", 256, 44_549_160, 77.374),
  _tv("resnet101.tv2_in1k", "resnet:resnet101", "resnet101-cd907fc2", 232, 44_549_160, 81.886),
  _tv("resnet152.tv_in1k", "resnet:resnet152", "resnet152-394f9c45", 256, 60_192_808, 78.312),
  _tv("resnet152.tv2_in1k", "resnet:resnet152", "resnet152-f82ba261", 232, 60_192_808, 82.284),
  _timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vit:vit_tiny", 248, "bicubic", 5_717_416, 75.452, **_HALF),
  _timm("vit_small_patch16_224.augreg_in21k_ft_in1k", "vit:vit_small", 248, "bicubic", 22_050_664, 81.402, **_HALF),
  _timm("vit_base_patch16_224.augreg_in21k_ft_in1k", "vit:vit_base", 248, "bicubic", 86_567_656, 84.534, **_HALF),
  _timm("vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit:vit_base", 248, "bicubic", 86_567_656, 85.108, **_HALF),
  _timm("swin_tiny_patch4_window7_224.ms_in1k", "swin:swin_tiny", 248, "bicubic", 28_288_354, 81.388),
  _timm("swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", "swin:swin_tiny", 248, "bicubic", 28_288_354, 80.966),
  _timm("swin_small_patch4_window7_224.ms_in1k", "swin:swin_small", 248, "bicubic", 49_606_258, 83.228),
  _timm("swin_small_patch4_window7_224.ms_in22k_ft_in1k", "swin:swin_small", 248, "bicubic", 49_606_258, 83.330),
  _timm("swin_base_patch4_window7_224.ms_in1k", "swin:swin_base", 248, "bicubic", 87_768_224, 83.604),
  _timm("swin_base_patch4_window7_224.ms_in22k_ft_in1k", "swin:swin_base", 248, "bicubic", 87_768_224, 85.276),
  _timm("mobilenetv2_100.ra_in1k", "mobilenet_v2:mobilenet_v2", 256, "bicubic", 3_504_872, 72.910),
  _tv("mobilenet_v2.tv_in1k", "mobilenet_v2:mobilenet_v2", "mobilenet_v2-b0353104", 256, 3_504_872, 71.878, **_TV),
  _tv("mobilenet_v2.tv2_in1k", "mobilenet_v2:mobilenet_v2", "mobilenet_v2-7ebf99e0", 232, 3_504_872, 72.154, **_TV),
  _MOBILENET_V2_TF,
  _timm("mobilenetv3_large_100.ra_in1k", "mobilenet_v3:mobilenet_v3_large", 256, "bicubic", 5_483_032, 75.784),
  _tv("mobilenet_v3_large.tv_in1k", _V3_TV, "mobilenet_v3_large-8738ca79", 256, 5_483_032, 74.042, **_TV),
  _tv("mobilenet_v3_large.tv2_in1k", _V3_TV, "mobilenet_v3_large-5c1a4163", 232, 5_483_032, 75.274, **_TV),
  _tv("squeezenet1_0.tv_in1k", "squeezenet:squeezenet1_0", "squeezenet1_0-b66bff10", 256, 1_248_424, 58.092),
  Classifier("nano.scenes", "nano:nano", _NANO_SCENES, 160, "bicubic", 311_714, size=160, classes="scenes10"),
  Classifier("nano.random", "nano:nano", "random", 160, "bicubic", 311_714, size=160, classes="source"),
)

MODELS: dict[str, Callable[[], ModelSpec]] = {row.name: row for row in (*_ROWS, *DETECTORS, *SEGMENTERS)}


def load_model(name: str) -> ModelSpec:
  """A model of the table, or the user's own as 'package.module:attribute' (see `models/callable.py`).

  Raises:
    SpecError: an unknown name, with the nearest; an attribute that is no model.
  """
  if name in MODELS:
    return MODELS[name]()
  if ":" not in name:
    raise specs.nearest("model", name, MODELS, "robust-compress list models")
  return as_model(specs.import_attribute("model", name), name)
