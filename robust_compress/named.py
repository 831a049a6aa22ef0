"""What a model's name in a config stands for: a row of `models/`, the user's own, or a learned codec to be trained.

'resnet50.a1_in1k', 'package.module:attribute' ──▶ models.load_model
'mbt2018-mean(levels=7,m=96,n=64)'             ──▶ codecs.learned.training.trainee
"""

from __future__ import annotations

from robust_compress import models, specs
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.types import ModelSpec, SpecError

FILES = ("weights", "start")  # options that name a file: to take weights from, or to start training from


def load(text: str) -> tuple[ModelSpec, dict[str, str]]:
  """(the model, the files among its options).

  Raises:
    SpecError: a name or an option that does not exist, with the nearest; both kinds of file.
  """
  name, given = specs.parse_call(text)
  files = {key: str(value) for key, value in given if key in FILES}
  options = {key: value for key, value in given if key not in FILES}
  if len(files) > 1:
    raise SpecError(f"{text}: weights=… are taken whole, and start=… is where training starts; expected one of them")
  if name in NETWORKS:
    from robust_compress.codecs.learned.training import trainee

    return trainee(name, **_checked(name, options, trainee.__kwdefaults__)), files
  if name not in models.MODELS and ":" not in name:
    raise specs.nearest("model", name, [*models.MODELS, *NETWORKS], "robust-compress list models")
  if options:
    raise specs.nearest("model option", next(iter(options)), FILES)
  return models.load_model(name), files


def _checked(name: str, options: dict, known: dict) -> dict:
  for key in options:
    if key not in known:
      raise specs.nearest(f"option of {name}", key, [*known, *FILES])
  return options
