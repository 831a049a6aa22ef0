"""Objects in rendered scenes, segmented under JPEG, WebP and a learned codec; repaired at the lowest rates.

    robust-compress run --config=configs/scenes_segmentation.py --workdir=runs/scenes_segmentation

Scenarios A, B and C, the control, and mIoU against the segmenter's own classes. Starts from the small segmenter that
is shipped; up to three objects of ten classes stand before a background in a picture of 160×160. What it
gives, and in what time, stands in results/README.md.
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "Objects in rendered scenes, segmented under compression"
  config.task = "segmentation"
  config.models = ("nano_seg.scenes",)
  config.test_data = "scenes(input=asis,truth=segmentation,objects=3,n=300):test"
  config.train_data = "scenes(input=asis,truth=segmentation,objects=3,n=1000):train"
  config.points = (
    *(f"jpeg@{quality}" for quality in (5, 10, 20, 50, 75)),
    *(f"webp@{quality}" for quality in (1, 20, 50)),
    "mbt2018-mean@1",
  )
  config.finetune_points = ("jpeg@5", "jpeg@10", "webp@1")
  config.protocols = ("baseline", "shifted", "relative", "finetuned", "control")
  config.recipe = settings.recipe_config(
    epochs=3.0,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup=0.1,
    weight_decay=0.02,
    crop_scale=(0.6, 1.0),
    crop_ratio=(0.8, 1.25),
    clip_norm=5.0,
  )
  config.batch_size = 50
  config.lock()
  return config
