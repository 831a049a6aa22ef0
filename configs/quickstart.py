"""A small classifier under three codecs, one of them learned, and its repair: every part in a few minutes, offline.

    robust-compress run --config=configs/quickstart.py --workdir=runs/quickstart

Ten classes of rendered pictures, 160×160, of which half the evidence is fine texture. The shipped classifier is swept
over seven JPEG qualities, five of WebP and two of a learned codec (scenarios A and B, and against itself), then
finetuned at four of them (C) and, by the same recipe, on originals (control).
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "A small classifier under JPEG, WebP and a learned codec"
  config.models = ("nano.scenes",)
  config.test_data = "scenes(input=asis,n=600):test"
  config.train_data = "scenes(input=asis,n=1200):train"
  config.points = (
    *(f"jpeg@{quality}" for quality in (5, 10, 15, 20, 30, 50, 75)),
    *(f"webp@{quality}" for quality in (1, 5, 20, 50, 75)),
    *(f"mbt2018-mean@{quality}" for quality in (1, 3)),
  )
  config.finetune_points = ("jpeg@5", "jpeg@10", "webp@1", "webp@20")
  config.protocols = ("baseline", "shifted", "relative", "finetuned", "control")
  config.recipe = settings.recipe_config(
    epochs=2.0,
    batch_size=32,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup=0.1,
    weight_decay=0.02,
    crop_scale=(0.7, 1.0),
    crop_ratio=(0.9, 1.1),
  )
  config.batch_size = 100
  config.lock()
  return config
