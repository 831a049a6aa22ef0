"""A small detector of the 128 pictures of coco128x, under JPEG, BPG and a learned codec.

    robust-compress run --config=configs/coco128x_kit.py --config.data_dir=KIT --workdir=runs/coco128x

KIT is a folder with coco128x/images and its labels in YOLO's text. There are too few pictures to learn detection from:
the network is trained on all of them until it knows many by heart, and tested on the same. So this says how coding
takes away what a detector of photographs had learned, and whether training on coded pictures gives it back; it says
nothing of pictures that it has not seen. Pictures are brought to 256×320 before coding.
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "128 photographs of COCO, learned by heart, detected under compression"
  config.task = "detection"
  config.data_dir = "../shared/kit"
  config.models = ("nano_det.random(n_classes=80,start=nano_det_scenes-871c05b1.safetensors)",)
  labels = "labels=object_detection/labels/split,classes=coco80"
  data = f"yolo(path=coco128x,{labels},resize=256x320,interpolation=bilinear,input=asis):train2017"
  config.test_data = config.train_data = data
  finetuned = ("jpeg@5", "jpeg@10", "jpeg@15", "jpeg@50", "bpg@45", "mbt2018-mean@1")
  config.points = (*finetuned, "jpeg@30", "jpeg@75", "bpg@38", "mbt2018-mean@3")
  config.finetune_points = finetuned
  config.protocols = ("baseline", "shifted", "relative", "finetuned", "control")
  config.self_target = "self(score=0.3)"
  common = {
    "batch_size": 16, "optimizer": "adamw", "warmup": 0.1, "weight_decay": 0.01, "crop_scale": (0.7, 1.0),
    "crop_ratio": (1.0, 1.6), "clip_norm": 5.0,
  }  # fmt: skip
  config.base_recipe = settings.recipe_config(steps=700, learning_rate=2e-3, ema=0.995, evaluate="ema", **common)
  config.recipe = settings.recipe_config(steps=80, learning_rate=5e-4, **common)
  config.batch_size = 16
  config.lock()
  return config
