"""Reich 2024, detection: its six detectors on COCO under JPEG 1 to 99, by labels and against themselves.

    robust-compress plan --config=configs/reich2024_detection.py --config.data_dir=TFDS --workdir=DIR
    robust-compress run  --config=configs/reich2024_detection.py:weights=FOLDER --config.data_dir=TFDS --workdir=DIR

Needs coco/2017 prepared by TFDS, the hub's weights of DETR, and in FOLDER, which is looked for in data_dir,
torchvision's three files of Faster R-CNN under their own names. COCO's own files do as well:
--config.test_data="coco(path=coco,resize=480x640,interpolation=bilinear):val2017". 99 qualities × 5,000 pictures are
coded once for all models; each model then makes 100 passes, 500,000 pictures. An accelerator at 50 pictures a second
needs 2.8 hours a model. Not run by us yet: there is no COCO where we build.

The codec sees pictures brought to 480×640, whatever their proportions; the paper does not say by which interpolation,
here it is bilinear. The networks are then fed as their authors feed them (shorter side 800, at most 1333), which
torchvision's do by themselves; whether the paper's DETR saw 480×640 is not said. Identifiers are what the paper ran,
not how its table names them ("Faster R-CNN (ResNet-18)" there is fasterrcnn_resnet50_fpn).

Against themselves, what a network finds on uncoded pictures is the truth. The score from which on it counts is not
stated; it is 0.5 here and part of every number: --config.self_target="self(score=0.7)" measures another. The text gives
an AP below 5 for qualities below 5, and Faster R-CNN ahead of DETR (ResNet-50) from 30 to 80; bounds and orders are not
drawn.
"""

from robust_compress import settings
from robust_compress.models import MODELS as TABLE
from robust_compress.models.weights import GIVEN

MODELS = (
  "detr_resnet50.coco",
  "detr_resnet101.coco",
  "detr_resnet101_dc5.coco",
  "fasterrcnn_resnet50_fpn.tv_coco",
  "fasterrcnn_resnet50_fpn_v2.tv_coco",
  "fasterrcnn_mobilenet_v3_large_fpn.tv_coco",
)


def get_config(arg=None):
  key, _, folder = (arg or "weights=").partition("=")
  if key != "weights":
    raise ValueError(f"argument {arg!r}; expected weights=FOLDER, with torchvision's files")
  config = settings.default_config()
  config.title = "Reich 2024: six detectors on COCO under JPEG"
  config.task = "detection"
  config.models = tuple(_with_file(name, folder) for name in MODELS)
  config.test_data = "coco/2017(resize=480x640,interpolation=bilinear):validation"
  config.points = tuple(f"jpeg@{quality}" for quality in range(1, 100))
  config.protocols = ("baseline", "shifted", "relative")
  config.self_target = "self(score=0.5)"
  config.batch_size = 16
  config.lock()
  return config


def _with_file(name, folder):
  """The model with its published file, where it has one that is not the hub's."""
  kind, _, file = TABLE[name].source.partition(":")
  return f"{name}(weights={folder}/{file})" if folder and kind in GIVEN else name
