"""Makes coco_ap.json: average precision of the pictures of detection_cases.py by pycocotools and by MMDetection.

PYTHONPATH=. python tests/golden/make_coco_ap.py     (pycocotools 2.0.11; mmdet 3.3.0, mmengine, terminaltables)

pycocotools knows no difficult objects: they are made ignored after it has read the annotations, as it does with crowds.
MMDetection's `eval_map` has VOC's rules; its file is loaded by itself, since all of mmdet needs compiled operators.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import pathlib
import sys
import types

import detection_cases
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CROWD, DIFFICULT = 1, 2
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Evaluation(COCOeval):
  def _prepare(self) -> None:
    super()._prepare()
    for objects in self._gts.values():
      for one in objects:
        one["ignore"] = one["ignore"] or one["difficult"]


def coco(pictures: list[dict], n_classes: int) -> dict:
  truth, results = COCO(), []
  annotations = []
  for number, picture in enumerate(pictures, 1):
    for box, label, area, kind in zip(*(picture[f"box{name}"] for name in ("es", "_labels", "_areas", "_kinds"))):
      annotations.append(
        {"id": len(annotations) + 1, "image_id": number, "category_id": int(label), "bbox": _sides(box)}
        | {"area": float(area), "iscrowd": int(kind == CROWD), "difficult": int(kind == DIFFICULT)}
      )
    for box, score, label in zip(picture["found"], picture["scores"], picture["labels"]):
      one = {"image_id": number, "category_id": int(label), "bbox": _sides(box), "score": float(score)}
      results.append(one)
  images = [{"id": number + 1} for number in range(len(pictures))]
  categories = [{"id": label, "name": str(label)} for label in range(n_classes)]
  truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
  truth.createIndex()
  evaluation = Evaluation(truth, truth.loadRes(results), "bbox")
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [threshold recall class]
  per_class = {label: [_mean(precision[..., label]), _mean(precision[0, :, label])] for label in range(n_classes)}
  return {**dict(zip(NAMES, evaluation.stats.tolist())), "AR": float(evaluation.stats[8]), "per_class": per_class}


def _sides(box: np.ndarray) -> list[float]:
  x0, y0, x1, y1 = (float(value) for value in box)
  return [x0, y0, x1 - x0, y1 - y0]


def _mean(values: np.ndarray) -> float:
  return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def voc(pictures: list[dict], n_classes: int) -> dict[str, float]:
  found = [
    [np.column_stack([one["found"], one["scores"]])[one["labels"] == label] for label in range(n_classes)]
    for one in pictures
  ]
  truth = []
  for one in pictures:
    difficult = one["box_kinds"] == DIFFICULT
    parts = {"": ~difficult, "_ignore": difficult}
    named = {f"bboxes{name}": one["boxes"][chosen] for name, chosen in parts.items()}
    truth.append(named | {f"labels{name}": one["box_labels"][chosen] for name, chosen in parts.items()})
  modes = {"VOC07": "11points", "VOC10": "area"}
  return {name: float(eval_map()(found, truth, nproc=1, eval_mode=mode)[0]) for name, mode in modes.items()}


def eval_map():
  folder = pathlib.Path(importlib.util.find_spec("mmdet").origin).parent / "evaluation" / "functional"
  package = types.ModuleType("functional")
  package.__path__ = [str(folder)]
  sys.modules["functional"] = package
  return importlib.import_module("functional.mean_ap").eval_map


if __name__ == "__main__":
  made = {}
  for name, case in detection_cases.CASES.items():
    pictures = detection_cases.pictures(name)
    with contextlib.redirect_stdout(io.StringIO()):
      made[name] = coco(pictures, case.n_classes)
    if name == "difficult":
      made[name] |= voc(pictures, case.n_classes)
  pathlib.Path(__file__).with_name("coco_ap.json").write_text(json.dumps(made, indent=1) + "\n")
