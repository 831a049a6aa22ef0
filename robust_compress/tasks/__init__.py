"""The tasks. A new one is a file here and a line in the table."""

from __future__ import annotations

from robust_compress import specs
from robust_compress.types import Task

TASKS = {
  "classification": ("robust_compress.tasks.classification:Classification", "one class a picture; top-1 and top-5"),
  "detection": ("robust_compress.tasks.detection:Detection", "objects in boxes; AP as of COCO and PASCAL VOC"),
  "segmentation": ("robust_compress.tasks.segmentation:Segmentation", "a class a pixel; mIoU and accuracies"),
  "codec": ("robust_compress.tasks.codec:Codec", "a learned codec: bits per pixel and PSNR"),
  "codec-ms-ssim": ("robust_compress.tasks.codec:ms_ssim_codec", "a learned codec that is trained on MS-SSIM"),
}


def load_task(name: str) -> Task:
  """A task by its name in the table, or by 'package.module:attribute' of a class or function that makes one."""
  if name not in TASKS and ":" not in name:
    raise specs.nearest("task", name, TASKS, "robust-compress list tasks")
  return specs.import_attribute("task", TASKS[name][0] if name in TASKS else name)()
