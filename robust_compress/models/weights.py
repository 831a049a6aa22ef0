"""Base weights: from a file, a hub's cache, or a seed, as variables of the model.

Weights.source   'random'               initialised from the seed
                 'file:<sha256>'        the file with that content: the caller's, or one of shipped/
                 'timm:<tag>'           timm's safetensors, by huggingface_hub or from the caller's file
                 'hub:<owner>/<name>'   the same of anybody else's
                 'torchvision:<file>'   torchvision's file, which the caller has downloaded
                 'mmdet:<file>'         MMDetection's, likewise; 'mmseg:<file>' MMSegmentation's
                 'callable:<version>'   inside the user's function: there is nothing to load
                 'started:<sha256>'     random, but for what a file of another network holds alike: training starts here
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_compress import convert
from robust_compress.provenance import sha256_file
from robust_compress.types import STARTED, ModelSpec, Weights, WeightsError

LOG = logging.getLogger("robust_compress")
SHIPPED = Path(__file__).parent / "shipped"  # <name>-<8 digits of sha256>.safetensors, each with its card
GIVEN = ("torchvision", "mmdet", "mmseg")  # sources that are files which the caller has downloaded
Files = Mapping[str, str | os.PathLike] | str | os.PathLike | None


def template(model: ModelSpec) -> dict[str, Any]:
  """Shapes and types of the model's variables, computed without allocating them."""
  import jax

  return jax.eval_shape(_initialiser(model), 0)


def n_params(model: ModelSpec) -> int:
  """Numbers that its training moves."""
  leaves = convert.flatten(template(model)["params"]).values()
  return sum(math.prod(leaf.shape) for leaf in leaves)


def load_weights(model: ModelSpec, files: Files = None) -> dict[str, Any]:
  """The model's base weights as variables: {'params': …} and, with batch norm, {'batch_stats': …}.

  Args:
    model: its `base.source` says which weights, its `reading` or else its `rules` how their keys translate.
    files: a path, or paths by source or by model name. Needed for 'file:' and what is in GIVEN; wins over the hub.

  Raises:
    WeightsError: not found, not the file that the source names, or not fitting the model.
  """
  if model.base.source.startswith("callable:"):
    return {}
  if model.base.source == "random":
    return _initialiser(model)(model.base.seed)
  path = locate(model, files)
  if is_started(model.base):
    return _started(model, path)
  return convert.to_variables(convert.read(path), _reading(model), template(model), f"{model.name} from {path}")


def locate(model: ModelSpec, files: Files = None) -> Path:
  """The file of the model's base weights, checked against the hash that its source carries, if it does."""
  kind, _, detail = model.base.source.partition(":")
  path = files.get(model.base.source, files.get(model.name)) if isinstance(files, Mapping) else files
  if kind in ("timm", "hub") and path is None:
    return _from_hub(model.name, f"timm/{detail}" if kind == "timm" else detail)
  if kind not in ("timm", "hub", *GIVEN, "file", STARTED):
    raise WeightsError(
      f"{model.name}: weights of source {model.base.source!r} are in no file; expected random, "
      "file:…, timm:…, hub:…, torchvision:…, mmdet:… or mmseg:…"
    )
  if path is None and kind == "file":
    path = next(SHIPPED.glob(f"*-{detail[:8]}.safetensors"), None)
  if path is None:
    raise WeightsError(f"{model.name}: give the path of its weights, {detail if kind in GIVEN else model.base.source}")
  path = Path(path)
  expected = detail if kind in ("file", STARTED) else "".join(re.findall(r"-([0-9a-f]{8})\.pth$", detail))
  if not path.is_file():
    raise WeightsError(f"{model.name}: no file {path}; expected its weights, {model.base.source}")
  if not (actual := sha256_file(path)).startswith(expected):
    raise WeightsError(
      f"{model.name}: {path} has SHA-256 {actual}, expected {expected}…; it is another file or damaged"
    )
  return path


def is_started(weights: Weights) -> bool:
  """Whether these are what training starts from, and no weights to be measured."""
  return weights.source.startswith(f"{STARTED}:")


def _started(model: ModelSpec, path: Path) -> dict[str, Any]:
  """Random variables, over which go those of the file that have the path and shape of one of them.

  Raises WeightsError where there is none such: the file then is of a network that has nothing in common with this one.
  """
  import jax

  found = convert.flatten(jax.tree.map(np.asarray, _initialiser(model)(model.base.seed)))
  given = convert.matching(convert.read(path), _reading(model), found)
  if not given:
    raise WeightsError(f"{model.name}: {path} holds no array that this network has too; start=… needs a related one")
  LOG.info("%s: starts with %d of its %d arrays from %s, the others random", model.name, len(given), len(found), path)
  return convert.unflatten({**found, **given})


def _reading(model: ModelSpec) -> tuple[Any, ...]:
  return model.reading or model.rules


def _initialiser(model: ModelSpec) -> Callable[[int], Any]:
  """seed -> variables."""
  import jax

  # It runs once, so that compiling it well takes several times what is gained: for ResNet-50, 24 s in place of 7.
  quickly = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
  return jax.jit(lambda seed: model.init(jax.random.key(seed)), compiler_options=quickly)


def _from_hub(name: str, repository: str) -> Path:
  remedy = f"or give the path of its model.safetensors (from huggingface.co/{repository})"
  try:
    from huggingface_hub import hf_hub_download
  except ImportError as error:
    raise WeightsError(
      f"{name}: downloading needs the extra 'hub', pip install 'robust-compress[hub]'; {remedy}"
    ) from error
  try:
    return Path(hf_hub_download(repository, "model.safetensors"))
  except Exception as error:  # the hub raises its own, requests' and httpx's errors, by version
    raise WeightsError(
      f"{name}: {repository} is not in the hub's cache and cannot be fetched ({error}); {remedy}"
    ) from error
