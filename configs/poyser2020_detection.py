"""Poyser 2020, table III: Faster R-CNN on PASCAL VOC 2007 under JPEG, before and after training on compressed pictures.

    robust-compress plan --config=configs/poyser2020_detection.py --config.data_dir=DATA --workdir=DIR
    robust-compress run  --config=configs/poyser2020_detection.py --config.data_dir=DATA --workdir=DIR

Needs VOCdevkit/VOC2007 in DATA, and torchvision's fasterrcnn_resnet50_fpn_coco-258fb6c6.pth there, from which all but
the last layers start (plans look for it too). The network is trained on the originals of trainval and then further at
each of five qualities: 6 weights of 60,000 steps of 2 pictures, 360,000 steps together. At 5 steps a second a training
takes 3.3 hours. Evaluated are the 4,952 pictures of test. Not run by us yet: there is no VOC where we build.

The table's reference point is JPEG 95 in place of originals, and its row at 95 is the same before and after; here
nothing is trained at 95, and the originals have a row of their own. The table gives 70.3 at 95, falling to 18.7 at
quality 5 before and to 55.9 after. It calls this mAP over IoU 0.5:0.95, and it reads like AP at IoU 0.5: rows have AP,
AP50 and VOC 2007's own AP (VOC07), and the printed numbers stand beside the first two. The table has no control, so
that part of what is gained may be the longer training:
--config.protocols="('baseline','shifted','finetuned','control')" tells.

Printed are 60,000 "epochs" (iterations: 24 epochs at this batch), a rate of 0.001 and weight decay of 0.0005. The batch
(2), momentum (0.9) and flips are as in Faster R-CNN's paper, whose first phase those numbers are. The network differs:
Detectron's is not named further and starts from ImageNet, ours has a pyramid, sees 800 pixels and starts from COCO,
which has VOC's classes, so expect it to be ahead.
"""

from robust_compress import settings

VOC = "voc(path=VOCdevkit/VOC2007)"
WEIGHTS = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
RECIPE = {
  "steps": 60_000,
  "batch_size": 2,
  "learning_rate": 1e-3,
  "schedule": "constant",
  "weight_decay": 5e-4,
  "crop_scale": None,
  "batch_norm": "frozen",
}


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "Poyser 2020: Faster R-CNN on PASCAL VOC 2007 under JPEG"
  config.task = "detection"
  config.models = (f"fasterrcnn_resnet50_fpn.tv_coco(n_classes=21,start={WEIGHTS})",)  # VOC's 20 and the background
  config.test_data, config.train_data = f"{VOC}:test", f"{VOC}:trainval"
  config.points = ("jpeg@5", "jpeg@10", "jpeg@15", "jpeg@50", "jpeg@75", "jpeg@95")
  config.finetune_points = config.points[:-1]
  config.protocols = ("baseline", "shifted", "finetuned")
  config.base_recipe = settings.recipe_config(**RECIPE)
  config.recipe = settings.recipe_config(**RECIPE)
  config.batch_size = 16
  config.lock()
  return config
