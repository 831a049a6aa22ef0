"""Foreign weights to Flax variables and back, by tables of rules.

    file ──read──▶ {key: array} ──to_variables(rules)──▶ {'params': …, 'batch_stats': …}
    file ◀─write_safetensors── {key: array} ◀──to_foreign(rules)──┘

A rule is a pair of templates with the same {placeholders} (each stands for a number) and a transform that knows its
inverse, so one table serves both ways: `Rule('layer{s}.{b}.conv{i}.weight', 'params/layer{s}_{b}/conv{i}/kernel',
'conv')`. Nothing is guessed: an array left over, unfilled or of another shape is an error that lists them all.
"""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_compress import specs
from robust_compress.files import write_atomic
from robust_compress.types import WeightsError

Transform = Callable[[np.ndarray], np.ndarray | None]  # None: the array has no counterpart on the other side


def _permutation(axes: tuple[int, ...]) -> tuple[Transform, Transform]:
  inverse = tuple(int(i) for i in np.argsort(axes))
  return lambda array: np.transpose(array, axes), lambda array: np.transpose(array, inverse)


TRANSFORMS: dict[str, tuple[Transform, Transform]] = {  # name -> (to ours, to foreign)
  "same": (lambda array: array, lambda array: array),
  "linear": _permutation((1, 0)),  # out, in -> in, out
  "conv": _permutation((2, 3, 1, 0)),  # o i h w -> h w i o; depthwise kernels too, whose i is 1
  "deconv": _permutation((2, 3, 0, 1)),  # i o h w -> h w i o, of a transposed convolution
  "unfold": (  # c y x -> x y c, of the four pixels that MMSegmentation's Swin merges, as timm's does
    lambda array: array.reshape(-1, 2, 2).transpose(2, 1, 0).reshape(-1),
    lambda array: array.reshape(2, 2, -1).transpose(2, 1, 0).reshape(-1),
  ),
  "unfold_linear": (  # out, c y x -> x y c, out
    lambda array: array.reshape(len(array), -1, 2, 2).transpose(3, 2, 1, 0).reshape(-1, len(array)),
    lambda array: array.reshape(2, 2, -1, array.shape[1]).transpose(3, 2, 1, 0).reshape(array.shape[1], -1),
  ),
  "conv_bgr": (  # a first convolution: o i h w -> h w i o, with the order of colours turned
    lambda array: np.transpose(array[:, ::-1], (2, 3, 1, 0)),
    lambda array: np.transpose(array, (3, 2, 0, 1))[:, ::-1],
  ),
  "pointwise": (lambda array: array.squeeze((2, 3)).T, lambda array: array.T[:, :, None, None]),  # o i 1 1 -> i o
  "pointwise_hwio": (lambda array: array.squeeze((0, 1)), lambda array: array[None, None]),  # 1 1 i o -> i o
  "conv3d": _permutation((2, 3, 4, 1, 0)),  # o i t h w -> t h w i o
  "counter": (lambda array: None, lambda array: np.zeros((), np.int64)),  # steps seen: not used, written as 0
  "ignored": (lambda array: None, lambda array: None),  # a constant that some files carry
  "state": (lambda array: None, lambda array: None),  # ours alone: zeros where training starts, in no file
}


@dataclass(frozen=True)
class Rule:
  """One line of a table: foreign key template, our path template, and how the array is laid out on each side.

  With `part` = (i, n) the foreign array is the i-th of n equal parts of ours along its last axis: queries, keys and
  values that we keep in one.
  """

  foreign: str
  ours: str
  transform: str = "same"
  part: tuple[int, int] = (0, 1)

  def __post_init__(self) -> None:
    if self.transform not in TRANSFORMS:
      raise specs.nearest("transform", self.transform, TRANSFORMS)
    ours, foreign = (set(_pattern(text).groupindex) for text in (self.ours, self.foreign))
    if ours != foreign and self.transform not in ("ignored", "state"):
      raise WeightsError(f"rule {self.foreign!r} -> {self.ours!r}: the placeholders differ, so it has no inverse")


def linear(foreign: str, ours: str = "", *, bias: bool = True) -> tuple[Rule, ...]:
  """torch.nn.Linear to nn.Dense. `ours` is the module's path under params, by default the foreign one with slashes."""
  return _layer(foreign, ours, "linear", bias)


def conv(foreign: str, ours: str = "", *, bias: bool = False) -> tuple[Rule, ...]:
  """torch.nn.Conv2d, depthwise too, to nn.Conv."""
  return _layer(foreign, ours, "conv", bias)


def layer_norm(foreign: str, ours: str = "") -> tuple[Rule, ...]:
  """torch.nn.LayerNorm or GroupNorm to their namesakes."""
  path = "params/" + (ours or foreign.replace(".", "/"))
  return Rule(f"{foreign}.weight", f"{path}/scale"), Rule(f"{foreign}.bias", f"{path}/bias")


def batch_norm(foreign: str, ours: str = "") -> tuple[Rule, ...]:
  """torch.nn.BatchNorm2d to `models.layers.BatchNorm`. Its counter of batches is dropped, and written as zero."""
  path = "batch_stats/" + (ours or foreign.replace(".", "/"))
  statistics = Rule(f"{foreign}.running_mean", f"{path}/mean"), Rule(f"{foreign}.running_var", f"{path}/var")
  return (*layer_norm(foreign, ours), *statistics, Rule(f"{foreign}.num_batches_tracked", f"{path}/mean", "counter"))


def _layer(foreign: str, ours: str, transform: str, bias: bool) -> tuple[Rule, ...]:
  path = "params/" + (ours or foreign.replace(".", "/"))
  weight = Rule(f"{foreign}.weight", f"{path}/kernel", transform)
  return (weight, Rule(f"{foreign}.bias", f"{path}/bias")) if bias else (weight,)


# ---------------------------------------------------------------------------------------------- applying rules


def to_variables(arrays: Mapping[str, np.ndarray], rules: Iterable[Rule], template: Mapping, name: str = "") -> dict:
  """Foreign arrays as a tree of float32 arrays with the structure and shapes of `template`.

  Args:
    arrays: by foreign key. Integers keep their type, every float becomes float32.
    rules: the model's table.
    template: nested dict whose leaves have a shape: variables, or what `jax.eval_shape` says of `init`.
    name: of the weights, for the message.

  Raises:
    WeightsError: lists every array left over, every variable unfilled and every pair whose shapes differ.
  """
  wanted, rules = flatten(template), tuple(rules)
  found = _Found()
  left_over, misshapen = [], []
  for key, array in arrays.items():
    matches = [(rule, path) for rule in rules if (path := _rename(rule.foreign, rule.ours, key)) is not None]
    rule, path = next((match for match in matches if match[1] in wanted or _drops(match[0])), (None, ""))
    if rule is None or (found.has(path, rule) and not _drops(rule)):
      left_over.append(key)
    elif not _drops(rule):
      value = _transformed(array, rule)
      if value is None or _whole(value.shape, rule) != tuple(wanted[path].shape):
        misshapen.append(f"{key} {array.shape} for {path} {tuple(wanted[path].shape)}")
      found.add(path, rule, np.asarray(array if value is None else value))
  own = [path for path in wanted if any(_is_state(rule, path) for rule in rules)]
  unfilled = [path for path in wanted if not found.is_whole(path) and path not in own]
  if left_over or unfilled or misshapen:
    raise WeightsError(_mismatch(name, len(arrays), len(wanted), left_over, unfilled, misshapen))
  return unflatten(found.arrays() | {path: np.zeros(wanted[path].shape, wanted[path].dtype) for path in own})


def matching(
  arrays: Mapping[str, np.ndarray], rules: Iterable[Rule], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """{path: array} of those that have the path and the shape of something `wanted`; the rest is passed over.

  For weights of a related network, of which a new one takes what it shares. All else is strict: `to_variables`.
  """
  found, rules = _Found(), tuple(rules)
  for key, array in arrays.items():
    paths = ((rule, _rename(rule.foreign, rule.ours, key)) for rule in rules if not _drops(rule))
    rule, path = next(((rule, path) for rule, path in paths if path is not None and path in wanted), (None, ""))
    value = None if rule is None else _transformed(array, rule)
    if rule is not None and value is not None and _whole(value.shape, rule) == tuple(wanted[path].shape):
      found.add(path, rule, value)
  return found.arrays()


class _Found:
  """Arrays by path, some of them in parts as yet."""

  def __init__(self) -> None:
    self._parts: dict[str, dict[int, np.ndarray]] = {}
    self._n: dict[str, int] = {}

  def has(self, path: str, rule: Rule) -> bool:
    return rule.part[0] in self._parts.get(path, ())

  def add(self, path: str, rule: Rule, array: np.ndarray) -> None:
    self._parts.setdefault(path, {})[rule.part[0]] = array
    self._n[path] = rule.part[1]

  def is_whole(self, path: str) -> bool:
    return path in self._n and len(self._parts[path]) == self._n[path]

  def arrays(self) -> dict[str, np.ndarray]:
    """Those that are whole."""
    return {path: self._joined(parts) for path, parts in self._parts.items() if self.is_whole(path)}

  def _joined(self, parts: dict[int, np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([parts[i] for i in range(len(parts))], -1)


def to_foreign(variables: Mapping, rules: Iterable[Rule]) -> dict[str, np.ndarray]:
  """The inverse of `to_variables`. Counters of batches come out as zeros, so that a strict load finds every key.

  Raises:
    WeightsError: lists the variables that no rule names.
  """
  arrays, unnamed, rules = {}, [], tuple(rules)
  for path, value in flatten(variables).items():
    named = {key: rule for rule in rules if (key := _rename(rule.ours, rule.foreign, path)) is not None}
    if not named:
      unnamed.append(path)
    for key, rule in named.items():
      if rule.transform != "state":
        arrays[key] = TRANSFORMS[rule.transform][1](_part(np.asarray(value), rule))
  if unnamed:
    raise WeightsError(f"{_listed(unnamed)} of the model have no rule, so no foreign name; add them to its RULES")
  return arrays


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
  """Nested dict to {'params/conv1/kernel': leaf}."""
  leaves: dict[str, Any] = {}
  for key, value in tree.items():
    leaves |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
  return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """{'params/conv1/kernel': leaf} to a nested dict."""
  tree: dict[str, Any] = {}
  for path, value in leaves.items():
    *parents, name = path.split("/")
    functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)[name] = value
  return tree


@functools.cache
def _pattern(template: str) -> re.Pattern:
  parts = re.split(r"\{(\w+)\}", template)
  return re.compile("".join(rf"(?P<{part}>\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def _rename(template: str, other: str, key: str) -> str | None:
  """`key` rewritten from one template to the other, None where it does not match."""
  match = _pattern(template).fullmatch(key)
  return None if match is None else other.format(**match.groupdict())


def _is_state(rule: Rule, path: str) -> bool:
  return rule.transform == "state" and _pattern(rule.ours).fullmatch(path) is not None


def _drops(rule: Rule) -> bool:
  return rule.transform in ("counter", "ignored")


def _whole(shape: tuple[int, ...], rule: Rule) -> tuple[int, ...]:
  """The shape of the whole that an array of `shape` is a part of."""
  return (*shape[:-1], shape[-1] * rule.part[1]) if rule.part[1] > 1 and shape else shape


def _part(array: np.ndarray, rule: Rule) -> np.ndarray:
  i, n = rule.part
  return np.split(array, n, -1)[i] if n > 1 else array


def _transformed(array: np.ndarray, rule: Rule) -> np.ndarray | None:
  try:
    value = TRANSFORMS[rule.transform][0](array)
  except ValueError:  # another number of axes
    return None
  floating = np.issubdtype(array.dtype, np.floating) or array.dtype.kind == "V"  # V: bfloat16
  return np.asarray(value, np.float32 if floating else None, order="C")


def _mismatch(name: str, n: int, n_ours: int, left_over: list, unfilled: list, misshapen: list) -> str:
  faults = [f"{len(left_over)} of {n} arrays are left over ({_listed(left_over)})"] if left_over else []
  faults += [f"{len(unfilled)} of the model's {n_ours} are unfilled ({_listed(unfilled)})"] if unfilled else []
  faults += [f"{len(misshapen)} differ in shape ({_listed(misshapen)})"] if misshapen else []
  return f"weights {name}: {' and '.join(faults)}; are they of another architecture, or with another head?"


def _listed(names: list[str], most: int = 12) -> str:
  return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ------------------------------------------------------------------------------------------------------- files


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Named arrays of a .safetensors, .npz or PyTorch (.pth, .pt, .bin, .pth.tar) file, never executing a pickle.

  A checkpoint's nesting ('state_dict', 'model', 'params') and the prefix 'module.' are taken off.

  Raises:
    WeightsError: missing, damaged, of an unknown kind, or holding anything but plain tensors.
    MemoryError: there is no room for them.
  """
  path = Path(path)
  readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
  readers |= dict.fromkeys((".pth", ".pt", ".bin", ".pth.tar"), _read_torch)
  reader = next((reader for ending, reader in readers.items() if path.name.endswith(ending)), None)
  if reader is None:
    raise WeightsError(f"{path}: weights are read from {', '.join(readers)} files")
  if not path.is_file():
    raise WeightsError(f"{path}: no such file")
  arrays = reader(path)
  prefix = "module." if arrays and all(key.startswith("module.") for key in arrays) else ""
  return {key.removeprefix(prefix): array for key, array in arrays.items()}


def write_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes the arrays where timm, torchvision and transformers can read them, whole or not at all.

  Raises StoreError where the disk is full or the folder cannot be written.
  """
  from safetensors.numpy import save

  arrays = {key: np.asarray(array, order="C") for key, array in arrays.items()}
  write_atomic(path, save(arrays, metadata={"format": "pt"}))


def check_finite(arrays: Mapping[str, np.ndarray], name: str) -> None:
  """Raises WeightsError, which names the first array that holds numbers that are not finite."""
  for key, array in arrays.items():
    if not np.isfinite(array).all():
      raise WeightsError(f"weights {name}: {key} holds numbers that are not finite; train or fetch them again")


def halved(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Arrays as float16. Raises WeightsError, which names the array, for numbers over its range."""
  with np.errstate(over="ignore"):  # told below
    made = {key: np.asarray(array, np.float16) for key, array in arrays.items()}
  for key, array in made.items():
    if not np.isfinite(array).all():
      raise WeightsError(f"weights {name}: {key} is not finite in float16; write it in float32")
  return made


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  from safetensors.numpy import load_file

  try:
    return load_file(path)
  except MemoryError:
    raise
  except Exception as error:  # of the library's own, and numpy's where it has no such numbers
    raise WeightsError(f"{path}: not a whole safetensors file of plain numbers ({error}); fetch it again") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {key: file[key] for key in file.files}
  except MemoryError:
    raise
  except Exception as error:  # a damaged archive fails in as many ways as it has bytes
    raise WeightsError(f"{path}: not a whole .npz of plain arrays ({error}); pickled objects are not read") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
  try:
    import torch  # pyright: ignore[reportMissingImports]: an extra
  except ImportError as error:
    remedy = "pip install 'robust-compress[torch]', or save the tensors as .safetensors where PyTorch is"
    raise WeightsError(f"{path}: a PyTorch file needs the extra 'torch'; {remedy}") from error
  try:
    content = torch.load(path, map_location="cpu", weights_only=True)
  except pickle.UnpicklingError as error:
    remedy = "where you trust it, load it and torch.save(model.state_dict(), …)"
    raise WeightsError(f"{path}: refused, its pickle is not plain tensors and could run code; {remedy}") from error
  except MemoryError:
    raise
  except Exception as error:  # a damaged file fails in as many ways as it has bytes
    raise WeightsError(f"{path}: not a whole PyTorch file ({error!r}); fetch it again") from error
  while isinstance(content, Mapping) and (
    key := next((k for k in ("state_dict", "model", "params") if k in content), "")
  ):
    content = content[key]
  if not isinstance(content, Mapping) or not all(
    isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
  ):
    raise WeightsError(
      f"{path}: holds no state_dict; expected named tensors, plain or under state_dict, model or params"
    )
  try:
    plain = {key: value.detach() for key, value in content.items()}
    return {key: (value.float() if value.is_floating_point() else value).numpy() for key, value in plain.items()}
  except (RuntimeError, TypeError) as error:
    raise WeightsError(f"{path}: holds tensors that are not plain numbers ({error}); save a state_dict") from error
