"""Configs: what a study may say, its defaults, and how a file and the command line fill it in.

A config file has `get_config(arg=None)`, starts from `default_config()`, and returns a locked `ConfigDict`; a key that
does not exist is an error that names the nearest one.
"""

from __future__ import annotations

import dataclasses
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from robust_compress import specs
from robust_compress.types import Recipe, SpecError


def default_config() -> ConfigDict:
  """Every key of a study with its default."""
  return ConfigDict(
    {
      "title": "",
      "task": "classification",
      "models": (),  # 'resnet50.a1_in1k', 'squeezenet1_0.tv_in1k(weights=file.pth)', 'package.module:attribute'
      "data_dir": "",  # relative paths of data and weights start here
      "test_data": "",  # 'folders(path=pictures,input=asis):val'
      "train_data": "",
      "points": (),  # swept: 'jpeg@10', 'webp@0.1bpp', 'webp(per_image=True)@0.1bpp'
      "finetune_points": (),  # finetuned on; () is all of `points`
      "protocols": ("baseline", "shifted"),
      "self_target": "self",  # of the relative protocol
      "recipe": recipe_config(),  # finetuning
      "base_recipe": recipe_config(),  # training of base weights from random ones, where epochs or steps are set
      "seeds": (0,),
      "batch_size": 64,  # of evaluation, over all devices
      "precision": "highest",  # of matrix products in float32
      "on_bad": "error",  # unreadable pictures: 'error' | 'skip'
      "backend": "threads",  # input pipeline: 'threads' | 'tf.data'
      "n_workers": 0,  # coding threads; 0 is one a core
      "n_examples": 4,  # pictures shown in the report
      "checkpoint_every": 500,  # steps
      "tensorboard": False,
    }
  )


def recipe_config(**changed: Any) -> ConfigDict:
  """A Recipe as a ConfigDict that knows all fields, so that the command line can set those left at None."""
  config = ConfigDict()
  for field in dataclasses.fields(Recipe):
    default = changed.pop(field.name, field.default)
    config[field.name] = _placeholder(field.type) if default is None else default
  if changed:
    raise specs.nearest("recipe field", next(iter(changed)), [field.name for field in dataclasses.fields(Recipe)])
  return config


def _placeholder(annotation: Any) -> Any:
  """The typed None of a field annotated 'float | None'."""
  options = [kind for kind in typing.get_args(eval(annotation, {"tuple": tuple})) if kind is not types.NoneType]
  kind = options[0]
  return config_dict.placeholder(typing.get_origin(kind) or kind)


def recipe_of(config: ConfigDict) -> Recipe:
  """`steps`, where set, wins over `epochs`, so that a run is shortened by one override; () turns a tuple field off.

  Raises SpecError where neither is set.
  """
  if not has_length(config):
    raise SpecError("recipe: neither epochs nor steps is set; expected one, e.g. --config.recipe.epochs=3")
  fields = {key: None if config.get(key) in ((), (None,)) else config.get(key) for key in config}
  return specs.parse_recipe(fields if fields["steps"] is None else {**fields, "epochs": None})


def has_length(config: ConfigDict) -> bool:
  return config.get("epochs") is not None or config.get("steps") is not None


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """Runs FILE[:arg]'s get_config(arg) and applies overrides of the form '--config.key=value'.

  Raises SpecError for a missing file, an unknown key (with the nearest one) or a value of another type.
  """
  file = path.partition(":")[0]
  if not pathlib.Path(file).is_file():
    raise SpecError(f"config {file!r} is not a file; expected a Python file with get_config(arg)")
  values = flags.FlagValues()
  arguments = ["robust-compress", f"--config={path}", *overrides]
  config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
  try:
    values(arguments)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    raise SpecError(f"config {path}: {_one_line(error)}") from error
  return values["config"].value


def _one_line(error: Exception) -> str:
  """KeyErrors arrive quoted and with escaped line breaks."""
  return " ".join(str(error).replace("\\n", "; ").replace("\\'", "'").replace("\n", "; ").split())
