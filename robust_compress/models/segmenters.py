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


SEGMENTERS: tuple[SegmenterRow, ...] = ()
