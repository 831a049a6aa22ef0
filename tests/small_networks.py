"""Weights of learned codecs for tests: narrow and random. They code badly, and by every path of the code."""

from __future__ import annotations

import atexit
import functools
import pathlib
import shutil
import tempfile

import numpy as np
from golden import learned_cases
from golden.learned_cases import CASES

from robust_compress import convert
from robust_compress.codecs.learned.networks import factorized, keys, load_network

LEVELS = 6
_STEP = 0.6  # of the logarithm of a gain, from level to level


@functools.cache
def small_weights(name: str, levels: int = LEVELS, sign: int = 1) -> pathlib.Path:
  """A file of weights of a network, with gain units if there are `levels`. It is there as long as this process.

  `sign` = -1 makes other weights of the same sizes.
  """
  import jax
  import jax.numpy as jnp

  case = CASES.get(name) or CASES["cheng2020-attn"]._replace(m=16, foretells="")
  options = {"n": case.n, "m": case.m, "levels": levels} | ({} if name in CASES else {"hidden": 20})
  level = {"level": jax.ShapeDtypeStruct((1,), jnp.float32)} if levels else {}
  picture = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  shapes = jax.eval_shape(load_network(name).build(**options).init, jax.random.key(0), picture, **level)
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  arrays = {key: _array(case, key, array.shape, sign) for key, array in convert.to_foreign(zeros, keys.RULES).items()}
  bottleneck = convert.to_variables(arrays, keys.READING, shapes, name)["params"]["entropy_bottleneck"]
  arrays["entropy_bottleneck.quantiles"] = factorized.solved_quantiles(bottleneck)
  path = _folder() / f"{name}-{levels}{'-other' * (sign < 0)}.safetensors"
  convert.write_safetensors(path, arrays)
  return path


def _array(case: learned_cases.Case, key: str, shape: tuple[int, ...], sign: int) -> np.ndarray:
  if key.startswith("gain_"):
    rows = _STEP * np.arange(-1, shape[0] - 1, dtype=np.float32)
    return np.repeat(rows[:, None] if key.endswith("gain") else -rows[:, None], shape[1], axis=1)
  return learned_cases.weight(case, key, shape) * np.float32(
    sign if key in ("g_a.0.weight", "g_a.0.conv1.weight") else 1
  )


@functools.cache
def _folder() -> pathlib.Path:
  folder = tempfile.mkdtemp(prefix="robust-compress-weights-")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return pathlib.Path(folder)
