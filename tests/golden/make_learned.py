"""Writes the goldens of learned codecs, in an environment with torch, torchvision, timm, compressai 1.2.8 and numpy:

PYTHONPATH=.:tests python tests/golden/make_learned.py [case …]

learned/<case>.npz     what CompressAI's forward gives in evaluation on seeded weights: y, z, scales, means,
                       likelihoods, x_hat (every seventh row and column, as all x_hat here); its quantiles; of compress
                       and decompress: decoded, the reconstruction, and n_bytes of the strings of y and z; and
                       large_decoded and large_n_bytes, the same of a larger picture (every 23rd row and column)
                       by weights that are `foretelling`
learned/state_dicts.json  number and digest of the keys and shapes of every published width
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from golden import (
  learned_cases,
  reference,  # noqa: F401 - makes torchvision importable, which compressai wants
  seeded,
)
from golden.learned_cases import LARGE_STEP, STEP

# isort: split
import compressai.models
import compressai.zoo

HERE = Path(__file__).parent / "learned"


def build(case: learned_cases.Case) -> torch.nn.Module:
  """CompressAI's network with the case's weights, its quantiles and tables made to fit."""
  network = getattr(compressai.models, case.theirs)
  net = network(case.n) if case.theirs.startswith("Cheng") else network(case.n, case.m)
  for name, value in net.named_parameters():
    if not name.endswith("quantiles"):
      value.data = torch.from_numpy(learned_cases.weight(case, name, tuple(value.shape)))
  net.eval().update(force=True, update_quantiles=True)
  return net


def channels_last(x: torch.Tensor) -> np.ndarray:
  return x.permute(0, 2, 3, 1).contiguous().numpy()


def forward(net: torch.nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
  """Outputs of forward, and what passes the entropy models and the transforms on the way."""
  seen = {}
  net.g_a.register_forward_hook(lambda module, given, y: seen.update(y=y))
  if hasattr(net, "h_a"):
    net.h_a.register_forward_hook(lambda module, given, z: seen.update(z=z))
    gaussian = net.gaussian_conditional.forward

    def watched(y, scales, means=None):
      seen.update(scales=scales, **({} if means is None else {"means": means}))
      return gaussian(y, scales, means)

    net.gaussian_conditional.forward = watched
  done = net(x)
  seen |= {f"likelihood_{name}": value for name, value in done["likelihoods"].items()}
  seen["x_hat"] = done["x_hat"][:, :, ::STEP, ::STEP]
  return {name: channels_last(value) for name, value in seen.items()}


def coding(net: torch.nn.Module, x: torch.Tensor, step: int, prefix: str = "") -> dict[str, np.ndarray]:
  """Outputs of compress and decompress."""
  coded = net.compress(x)
  decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"][:, :, ::step, ::step]
  n_bytes = np.array([len(string[0]) for string in coded["strings"]])
  return {f"{prefix}decoded": channels_last(decoded), f"{prefix}n_bytes": n_bytes}


@contextlib.contextmanager
def clear_of_halves(net: torch.nn.Module, least: float = 3e-5):
  """Raises ValueError where compress rounds a number that is nearer than `least` to lying between two symbols."""
  nearest = []
  for model in (net.entropy_bottleneck, getattr(net, "gaussian_conditional", net.entropy_bottleneck)):

    def watched(inputs, mode, means=None, quantize=model.quantize):
      offset = inputs if means is None else inputs - means
      nearest.append((0.5 - (offset - offset.round()).abs()).min().item())
      return quantize(inputs, mode, means)

    model.quantize = watched
  yield
  del net.entropy_bottleneck.quantize
  if hasattr(net, "gaussian_conditional"):
    del net.gaussian_conditional.quantize
  if min(nearest) < least:
    raise ValueError(
      f"a latent is {min(nearest):.1e} from a half; another machine may round it otherwise: change the case's `large`"
    )


def outputs(case: learned_cases.Case) -> dict[str, np.ndarray]:
  net, x = build(case), torch.from_numpy(learned_cases.picture()).permute(0, 3, 1, 2)
  foretelling = build(learned_cases.foretelling(case))
  large = torch.from_numpy(learned_cases.large(case).astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)
  with torch.no_grad():
    found = coding(net, x, STEP)
    with clear_of_halves(foretelling):
      found |= coding(foretelling, large, LARGE_STEP, "large_")
    found |= forward(net, x)
  return {**found, "quantiles": net.entropy_bottleneck.quantiles.detach().numpy()}


def state_dicts() -> dict[str, dict[str, list]]:
  """{name: {quality: [number of arrays, digest of keys and shapes]}}."""
  listed = {}
  for name, widths in compressai.zoo.image.cfgs.items():
    if name in learned_cases.CASES:
      networks = {q: compressai.zoo.image.model_architectures[name](*width) for q, width in widths.items()}
      shapes = {q: {k: tuple(v.shape) for k, v in net.named_parameters()} for q, net in networks.items()}
      listed[name] = {str(q): [len(found), seeded.digest(found)] for q, found in shapes.items()}
  return listed


def main(names: list[str]) -> None:
  HERE.mkdir(exist_ok=True)
  for name in names or learned_cases.CASES:
    found = outputs(learned_cases.CASES[name])
    np.savez_compressed(HERE / f"{name}.npz", **found)
    spread = {key: [f"{v:.3g}" for v in (value.min(), value.std(), value.max())] for key, value in found.items()}
    print(f"{name}: {(HERE / f'{name}.npz').stat().st_size} bytes, {found['n_bytes']} coded", spread)
  lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in state_dicts().items()]
  (HERE / "state_dicts.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
  main(sys.argv[1:])
