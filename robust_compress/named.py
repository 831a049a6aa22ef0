"""What a model's name in a config stands for: a row of `models/`, the user's own, or a learned codec to be trained.

'resnet50.a1_in1k', 'package.module:attribute' ──▶ models.load_model
'nano_det.random(n_classes=80)'                ──▶ the same, with another head
'mbt2018-mean(levels=7,m=96,n=64)'             ──▶ codecs.learned.training.trainee
"""

from __future__ import annotations

import dataclasses

from robust_compress import models, specs
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.types import ModelSpec, SpecError, Weights

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
  n_classes = options.pop("n_classes", None)
  if options:
    raise specs.nearest("model option", next(iter(options)), ["n_classes", *FILES])
  model = models.load_model(name)
  return model if n_classes is None else _with_head(model, n_classes), files


def _with_head(model: ModelSpec, n_classes: object) -> ModelSpec:
  """The network with another number of classes, those of the data it is trained on: other weights, of another name.

  A file of the published head no longer fits; start=FILE takes all that does. Where the published list has no class at
  0, as the background of Faster R-CNN, n_classes counts it too.
  """
  if not isinstance(n_classes, int) or isinstance(n_classes, bool) or n_classes < 1:
    raise SpecError(f"{model.name}(n_classes={n_classes}): expected a whole number from 1")
  name = specs.format_call(model.name, (("n_classes", n_classes),))
  classes = "source" if model.classes in ("", "source") else f"source:{model.classes}"
  made = dataclasses.replace(model, name=name, classes=classes, published=None, base=Weights("random"))
  made = made.bound(n_classes=n_classes)
  return dataclasses.replace(made, n_params=models.n_params(made))


def _checked(name: str, options: dict, known: dict) -> dict:
  for key in options:
    if key not in known:
      raise specs.nearest(f"option of {name}", key, [*known, *FILES])
  return options
