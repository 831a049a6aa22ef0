"""Trains the classifier that the quickstart starts from, from random weights on 4000 rendered pictures of 160×160.

    robust-compress run --config=configs/scenes_classifier.py --workdir=runs/scenes_classifier
    robust-compress export --workdir=runs/scenes_classifier --weights=KEY --output=nano_scenes.safetensors

What came of it, and how long it took, stands in robust_compress/models/shipped/nano_scenes.md.
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "A small classifier of rendered scenes, before any repair"
  config.models = ("nano.random",)
  config.test_data = "scenes(input=asis):val"
  config.train_data = "scenes(input=asis):train"
  config.points = ("jpeg@5", "jpeg@10", "jpeg@15", "jpeg@30", "jpeg@50", "jpeg@95")
  config.base_recipe = settings.recipe_config(
    epochs=16.0,
    batch_size=32,
    optimizer="adamw",
    learning_rate=3e-3,
    warmup=0.1,
    weight_decay=0.02,
    label_smoothing=0.05,
    crop_scale=(0.7, 1.0),
    crop_ratio=(0.9, 1.1),
  )
  config.lock()
  return config
