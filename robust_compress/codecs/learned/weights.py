"""Weights of learned codecs: from files that may be anyone's to checked variables, and back.

    .pth.tar, .safetensors ──convert.read──▶ arrays ──networks.keys──▶ Loaded(variables, key, widths) ──module──▶ Flax
    .safetensors ◀──write── variables

How wide a network is stands nowhere but in the shapes of its arrays. The key is a hash of the numbers, whatever file
they stood in: blobs name it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robust_compress import convert
from robust_compress.codecs.learned.networks import FILES_AT, keys, load_network
from robust_compress.provenance import sha256_file
from robust_compress.types import WeightsError

SHIPPED = Path(__file__).parent / "shipped"  # <network>-<key>.safetensors, each with its card
MAX_WIDTH = 1 << 16  # of any layer


class Loaded(NamedTuple):
  """Weights that fit their network."""

  network: str
  variables: dict[str, Any]  # {'params': …} of float32 arrays, all finite
  key: str  # 8 hexadecimal digits
  n: int
  m: int
  levels: int  # of the gain units; 0: none
  hidden: int = 0  # width of the hidden layers of cheng2020-gmm; 0: another network


def load(network: str, file: str | Path) -> Loaded:
  """Weights from a .safetensors or PyTorch file in CompressAI's names, new or old. No pickle is executed.

  Raises:
    WeightsError: missing, damaged, not plain arrays, or not those of the network: lists what is left over and unfilled.
    SpecError: an unknown network.
  """
  file = Path(file)
  loaded = _fitted(network, convert.read(file), f"{network} from {file}")
  if file.parent == SHIPPED and file.name != f"{network}-{loaded.key}.safetensors":
    raise WeightsError(f"{file}: its numbers have the key {loaded.key}; it is damaged, install robust-compress again")
  return loaded


def from_variables(network: str, variables: Mapping[str, Any]) -> Loaded:
  """The same of variables {'params': …}, as training gives them. Raises as `load`."""
  return _fitted(network, _foreign(variables, network), network)


def module(loaded: Loaded, **types: Any) -> Any:
  """The Flax module of that width; `types`: its dtype and param_dtype."""
  return _built(loaded.network, {part: getattr(loaded, part) for part in ("n", "m", "levels", "hidden")}, **types)


def template(network: Any) -> dict[str, Any]:
  """Shapes of a network's variables, computed without allocating them."""
  import jax
  import jax.numpy as jnp

  picture = jax.ShapeDtypeStruct((1, network.stride, network.stride, 3), jnp.float32)
  level = {"level": jax.ShapeDtypeStruct((1,), jnp.float32)} if network.levels else {}
  return jax.eval_shape(network.init, jax.random.key(0), picture, **level)


def shipped(network: str) -> Path | None:
  """The file of this project's own weights of a network, None where there are none."""
  return min(SHIPPED.glob(f"{network}-{'[0-9a-f]' * 8}.safetensors"), default=None)


def published(network: str, metric: str, quality: int, folder: str | Path) -> Path:
  """CompressAI's file of a network in a folder, checked against the hash in its name.

  Raises:
    WeightsError: it is not there, with the address to fetch it from; or it is damaged.
    LevelError, SpecError: a quality or a metric that was not published.
  """
  name = load_network(network).file(quality, metric)
  path = Path(folder) / name
  if not path.is_file():
    raise WeightsError(f"{network}: no file {name} in {folder}; fetch {FILES_AT}{name}")
  expected = name.removesuffix(".pth.tar").rpartition("-")[2]
  if not (actual := sha256_file(path)).startswith(expected):
    raise WeightsError(f"{path}: SHA-256 is {actual[:8]}…, expected {expected}…; it is damaged, fetch {FILES_AT}{name}")
  return path


# --------------------------------------------------------------------------------------------------- parts


def _fitted(network: str, arrays: Mapping[str, np.ndarray], name: str) -> Loaded:
  """Foreign arrays as variables of the network as wide as they are."""
  widths = _widths(network, arrays, name)
  variables = convert.to_variables(arrays, keys.READING, template(_built(network, widths)), name)
  leaves = convert.flatten(variables)
  if wrong := [path for path, leaf in leaves.items() if leaf.dtype != np.float32]:
    raise WeightsError(f"weights {name}: {wrong[0]} is {leaves[wrong[0]].dtype}; expected floating point numbers")
  convert.check_finite(leaves, name)
  return Loaded(network, variables, _key(leaves), **widths)


def _widths(network: str, arrays: Mapping[str, np.ndarray], name: str) -> dict[str, int]:
  """How to build the network, by the first axes of some arrays."""
  is_attentive = network in ("cheng2020-attn", "cheng2020-gmm")
  read = {"n": "g_a.0.conv1.weight" if network.startswith("cheng2020") else "g_a.0.weight"}
  read |= {"m": "g_a.7.weight" if is_attentive else "g_a.6.weight", "levels": "gain_y.log_gain"}
  read |= {"hidden": "entropy_parameters.0.weight"} if network == "cheng2020-gmm" else {}
  load_network(network)
  found = {part: np.shape(arrays[key])[:1] for part, key in read.items() if key in arrays}
  if missing := [key for part, key in read.items() if part not in found and part != "levels"]:
    raise WeightsError(f"weights {name}: no array {missing[0]} among {len(arrays)}; are they of another network?")
  for part, width in found.items():
    if not width or not (1 if part == "levels" else 2) <= width[0] <= MAX_WIDTH:  # attention halves a width
      raise WeightsError(f"weights {name}: {read[part]} has no first axis of 2 to {MAX_WIDTH}; is it another array?")
  return {"levels": 0} | {part: int(width[0]) for part, width in found.items()}


def _built(network: str, widths: Mapping[str, int], **types: Any) -> Any:
  options = {part: width for part, width in widths.items() if part != "hidden" or width}
  return load_network(network).build(**options, **types)


def _foreign(variables: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
  try:
    return convert.to_foreign(variables, keys.RULES)
  except ValueError as error:  # another number of axes
    raise WeightsError(f"weights {name}: an array has not the axes of its layer ({error})") from error


def _key(leaves: Mapping[str, np.ndarray]) -> str:
  """8 hexadecimal digits over names, shapes and numbers, in the order of names."""
  digest = hashlib.sha256()
  for path in sorted(leaves):
    array = np.ascontiguousarray(leaves[path], "<f4")
    digest.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
    digest.update(array.data)
  return digest.hexdigest()[:8]
