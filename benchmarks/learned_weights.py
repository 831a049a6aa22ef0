"""Random weights for learned codecs of any width, that code at a rate of about 1 bpp: what coding costs hangs on it."""

import pathlib
import sys
from typing import Any

import jax
import numpy as np

from robust_compress import convert
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import factorized, keys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from golden.learned_cases import CASES, Case, weight

SCALE = 0.45  # of latents, and what networks foretell
_LAST = {"cheng2020-anchor": ("g_a.6.weight", 0.3), "cheng2020-attn": ("g_a.7.weight", 0.15)}  # and how much it adds


def write(name: str, network: Any, path: pathlib.Path) -> None:
  """An .npz under CompressAI's names."""
  case, template = case_of(name, network.n, network.m), weights.template(network)
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
  arrays = {key: weight(case, key, leaf.shape) for key, leaf in convert.to_foreign(zeros, keys.RULES).items()}
  if name not in CASES:  # k weights for each latent, then its means, then its scales
    arrays["entropy_parameters.4.bias"] += np.repeat(np.float32([0, 0, SCALE]), 3 * network.m)
  bottleneck = convert.to_variables(arrays, keys.READING, template)["params"]["entropy_bottleneck"]
  np.savez(path, **{**arrays, "entropy_bottleneck.quantiles": factorized.solved_quantiles(bottleneck)})


def case_of(name: str, n: int, m: int) -> Case:
  like = name if name in CASES else "cheng2020-attn"
  key, gain = _LAST.get(like, ("g_a.6.weight", 1.2))
  case = CASES[like]
  gains = {**case.gains, key: gain, f"{case.foretells}.weight": 0.3}
  foretells = case.foretells if name in CASES else ""
  return case._replace(n=n, m=m, gains=gains, foretells=foretells, foretold=(SCALE, 0.0))
