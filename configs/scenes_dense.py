"""Trains the small detector and the small segmenter that the scenes studies start from, on pictures of 160×160.

    robust-compress run --config=configs/scenes_dense.py:detection --workdir=runs/scenes_detector
    robust-compress export --workdir=runs/scenes_detector --weights=KEY --output=nano_det.safetensors
    robust-compress run --config=configs/scenes_dense.py:segmentation --workdir=runs/scenes_segmenter
    robust-compress export --workdir=runs/scenes_segmenter --weights=KEY --output=nano_seg.safetensors

Both start from the encoder of the classifier that is shipped. What came of it, and how long it took, stands in
robust_compress/models/shipped/nano_det_scenes.md and nano_seg_scenes.md.
"""

from robust_compress import settings
from robust_compress.specs import nearest

MODELS = {"detection": "nano_det.random", "segmentation": "nano_seg.random"}
EPOCHS = {"detection": 12.0, "segmentation": 8.0}
TRUTHS = {"detection": "boxes", "segmentation": "segmentation"}


def get_config(arg="detection"):
  arg = arg or "detection"
  if arg not in MODELS:
    raise nearest("task of this config", arg, MODELS)
  config = settings.default_config()
  config.title = f"A small network for {arg} in rendered scenes, before any repair"
  config.task = arg
  config.models = (f"{MODELS[arg]}(start=nano_scenes-8d788133.safetensors)",)
  data = f"scenes(input=asis,truth={TRUTHS[arg]},objects=3"
  config.test_data, config.train_data = f"{data},n=300):val", f"{data},n=2500):train"
  config.points = ("jpeg@5", "jpeg@20", "jpeg@50", "jpeg@95")
  config.base_recipe = settings.recipe_config(
    epochs=EPOCHS[arg],
    batch_size=16,
    optimizer="adamw",
    learning_rate=2e-3,
    warmup=0.1,
    weight_decay=0.02,
    crop_scale=(0.5, 1.0),
    crop_ratio=(0.8, 1.25),
    clip_norm=5.0,
    ema=0.998,
    evaluate="ema",
  )
  config.batch_size = 50
  config.lock()
  return config
