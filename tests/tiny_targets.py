"""A config file of target rates, for `test_levels.py`: one level for all, a level a picture, and one out of reach."""

from test_study import tiny_config


def get_config(arg=None):
  del arg
  points = ("webp@1.2bpp", "webp(per_image=True)@1.2bpp", "jpeg@0.1bpp", "webp@20")
  config = tiny_config(points=points, finetune_points=points[:2], protocols=("shifted", "mixed"))
  return config.lock()
