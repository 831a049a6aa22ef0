"""A config file with a sweep, for `test_launch.py`: nothing to train, seconds to run."""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.models = ("own_models:tiny",)
  config.test_data = "scenes(size=32,n=4,input=asis):test"
  config.points = ("jpeg@5",)
  config.batch_size, config.n_examples = 4, 0
  config.lock()
  return config


def sweep():
  for points in (("jpeg@5",), ("jpeg@5", "jpeg@50")):
    yield {"points": points}
