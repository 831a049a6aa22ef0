"""Numbers that the three studies print, each with its place.

Only what stands in a text or a table is here, never a point read off a plot. A number is drawn beside a curve of
the same task, data set, architecture and codec; weights, views and metric code of the papers differ in detail, which
is why a published point is a landmark and no target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from robust_compress import specs
from robust_compress.types import Point

JANEIRO = "Janeiro 2023"
REICH = "Reich 2024"
POYSER = "Poyser 2020"


class PublishedPoint(NamedTuple):
  """One printed number. `role` is A (original), B (as trained) or C (finetuned)."""

  paper: str
  place: str  # where it stands
  task: str
  data: str  # the data set, as `data_set` calls it
  model: tuple[str, ...]  # how our names of that architecture begin
  role: str
  test: Point
  metric: str
  value: float  # a fraction, or the metric's own unit
  bpp: float | None = None
  note: str = ""


def published(task: str, model: str, data: str) -> list[PublishedPoint]:
  """The printed numbers for one task, model ('swin_tiny….ms_in1k') and data set (its written form)."""
  name = data_set(data)
  mine = (p for p in PUBLISHED if (p.task, p.data) == (task, name))
  return [p for p in mine if any(_is_architecture(model, prefix) for prefix in p.model)]


def data_set(data: str) -> str:
  """Which data set it is, by TFDS's name where it has one; that of the source where it could be anything.

  >>> data_set('masks(path=city,naming=cityscapes):val'), data_set('voc(path=VOCdevkit/VOC2007):test')
  ('cityscapes', 'voc/2007')
  """
  parsed = specs.parse_data(data)
  options = dict(parsed.options)
  if parsed.name in ("masks", "frames"):
    classes = options.get("classes", "cityscapes19" if options.get("naming") == "cityscapes" else "")
    return {"ade150": "ade20k", "cityscapes19": "cityscapes"}.get(classes, parsed.name)
  if parsed.name == "coco" and parsed.split in ("train2017", "val2017"):
    return "coco/2017"
  if parsed.name == "voc" and str(options.get("path", "")).rstrip("/").endswith("VOC2007"):
    return "voc/2007"
  return parsed.name


def _is_architecture(model: str, prefix: str) -> bool:
  """'resnet50' is 'resnet50.a1_in1k' and 'resnet50_x' but not 'resnet500'."""
  return model.startswith(prefix) and not model[len(prefix) : len(prefix) + 1].isalnum()


def _janeiro() -> Iterator[PublishedPoint]:
  classification = ("classification", "imagenet2012", ("swin_tiny", "swin_t"))
  detection = ("detection", "coco/2017", ("ddod",))
  segmentation = ("segmentation", "ade20k", ("upernet_swin",))
  none, bpg = Point("none"), Point("bpg", bpp=0.1)
  cheng = "cheng2020-attn"
  notes = {
    cheng: "'GMM hyperprior' there is the cheng2020 of CompressAI, a single Gaussian, with or without attention",
    "ddod": "the baseline of detection is the model finetuned on originals, which scored better than the published one",
  }
  for setting, role, test, metric, score, bpp, place in (
    (classification, "A", none, "top1", 0.81, 5.2, "section 4, Classification"),
    (classification, "B", bpg, "top1", 0.595, 0.1, "section 4, Classification"),
    (classification, "C", bpg, "top1", 0.73, 0.1, "section 4, Classification"),
    *(
      (classification, "C", Point(codec, bpp=1.0), "top1", 0.79, 1.0, "section 4: 'around 79 %' for all codecs")
      for codec in ("bpg", "webp", "mbt2018", cheng)
    ),
    (detection, "A", none, "AP", 0.425, None, "section 4, Object detection"),
    (detection, "C", Point(cheng, bpp=0.4), "AP", 0.42, 0.4, "section 4, Object detection"),
    (segmentation, "A", none, "mIoU", 0.445, 1.44, "section 4, Semantic segmentation"),
    (segmentation, "B", Point(cheng, bpp=0.1), "mIoU", 0.305, 0.1, "abstract; section 4 rounds it to 31"),
    (segmentation, "C", Point(cheng, bpp=0.1), "mIoU", 0.42, 0.1, "abstract and section 4"),
    (segmentation, "C", Point(cheng, bpp=0.6), "mIoU", 0.445, 0.6, "section 4: 'matches the baseline'"),
  ):
    note = notes.get(test.codec) or notes.get(setting[2][0] if role == "A" else "", "")
    yield PublishedPoint(JANEIRO, place, *setting, role, test, metric, score, bpp, note)


def _reich() -> Iterator[PublishedPoint]:
  """What its text says of detection and segmentation is bounds ('below 10 %'), and stands in the configs."""
  note = (
    "the drop is printed as '3.1 %' and '1.9 %' and taken as points; table 1 lists identifier resnet101 for this name"
  )
  for role, test, score in (
    ("A", Point("none"), 0.790),
    ("B", Point("jpeg", level=80.0), 0.759),
    ("B", Point("jpeg", level=90.0), 0.771),
  ):
    setting = ("classification", "imagenet2012", ("resnet50",))
    yield PublishedPoint(REICH, "section 2.1, Image classification", *setting, role, test, "top1", score, note=note)
  setting, note = ("classification", "imagenet2012", ("swin_base",)), "printed as 'about 83 %'"
  yield PublishedPoint(REICH, "section 1", *setting, "A", Point("none"), "top1", 0.83, note=note)


# Poyser's tables: level, then (before retraining, after retraining) for each metric. JPEG 95 and CRF 23 are their
# reference points in place of originals, so both columns agree there. Detection stands beside two metrics: as printed,
# and as which it reads.
_MAP = ((0.703, 0.686, 0.666, 0.545, 0.442, 0.187), (0.703, 0.694, 0.692, 0.647, 0.627, 0.559))
_NOTES = {"table III": "printed as mAP over IoU 0.5:0.95; numbers as high as 0.703 on VOC 2007 read like AP at IoU 0.5"}
_POYSER = (
  ("table I", ("segmentation", "cityscapes", ("segnet",)), "jpeg", {
    "global_accuracy": ((0.911, 0.909, 0.904, 0.814, 0.794, 0.782), (0.911, 0.910, 0.908, 0.902, 0.895, 0.879)),
    "mean_accuracy": ((0.536, 0.530, 0.523, 0.459, 0.421, 0.364), (0.536, 0.522, 0.503, 0.494, 0.477, 0.445)),
    "mIoU": ((0.454, 0.448, 0.438, 0.338, 0.304, 0.265), (0.454, 0.446, 0.431, 0.420, 0.405, 0.374)),
  }),
  ("table II", ("depth", "synthia", ("gan_depth",)), "jpeg", {
    "AbsRel": ((0.0112, 0.0116, 0.0123, 0.0146, 0.0192, 0.0283), (0.0112, 0.0113, 0.0103, 0.0121, 0.0152, 0.0159)),
    "SqRel": ((0.0039, 0.0039, 0.0038, 0.0040, 0.0042, 0.0060), (0.0039, 0.0035, 0.0029, 0.0034, 0.0031, 0.0040)),
    "RMSE": ((0.0588, 0.0589, 0.0587, 0.0599, 0.0617, 0.0749), (0.0588, 0.0560, 0.0502, 0.0556, 0.0528, 0.0599)),
  }),
  ("table III", ("detection", "voc/2007", ("fasterrcnn", "faster_rcnn")), "jpeg", {"AP": _MAP, "AP50": _MAP}),
  ("table IV", ("pose", "coco/2017", ("openpose",)), "jpeg", {
    "AP": ((0.711, 0.689, 0.655, 0.413, 0.323, 0.098), (0.711, 0.708, 0.678, 0.654, 0.597, 0.454)),
  }),
  ("table V", ("action", "ucf101", ("two_stream",)), "h264", {
    "top1": ((0.835485, 0.736030, 0.722329, 0.708803, 0.414777), (0.835485, 0.717616, 0.705765, 0.671227, 0.562279)),
  }),
)  # fmt: skip


def _poyser() -> Iterator[PublishedPoint]:
  for table, setting, codec, metrics in _POYSER:
    levels = (95, 75, 50, 15, 10, 5) if codec == "jpeg" else (23, 25, 30, 40, 50)
    options = () if codec == "jpeg" else (("mode", "crf"),)
    for metric, columns in metrics.items():
      for role, part, scores in zip("BC", "AB", columns, strict=True):
        for level, score in zip(levels, scores, strict=True):
          point = Point(codec, options, level=float(level))
          note = _NOTES.get(table, "")
          yield PublishedPoint(POYSER, f"{table} {part}", *setting, role, point, metric, score, note=note)


PUBLISHED = (*_janeiro(), *_reich(), *_poyser())
