"""Weights to start training from, in place of random ones: principal components, and what a simpler network learned.

    python -m robust_compress.starting FOLDER… --n=48 --m=160 --output=start.safetensors          for mbt2018-mean
    python -m robust_compress.starting FOLDER… --mean=mbt2018-mean.safetensors --output=….safetensors  for mbt2018

    [b h w c] ──2×2 blocks──▶ 4c numbers ──rotated to principal components──▶ the first n of them [b h/2 w/2 n] ──▶ …

A random autoencoder of four strided convolutions spends thousands of steps on the mean colour of blocks before it finds
any detail. This one begins as a linear transform that keeps the most of the variance which its widths allow; g_s begins
as its inverse. The gain of a level is then a step of rounding that fits the λ of that level: about 1 / STEP in the
middle. A network with context begins as the one without: what h_s foretells passes the new layers as it is.

The networks are those of Ballé et al. 2018 and Minnen et al. 2018; `start=FILE` takes what fits from a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_compress import convert
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import keys
from robust_compress.codecs.learned.networks.layers import PEDESTAL
from robust_compress.codecs.learned.weights import Loaded
from robust_compress.data.picture_folders import pictures

STEP = 1 / 8  # of rounding at the middle level, on samples in 0…1 under an orthonormal transform
BEND = 0.01  # GDN's γ: nearly linear, so that g_s undoes g_a
LIFT = 2.5  # of foretold means, in their own sizes: what is lifted higher, a step of Adam shakes harder
NOISE = 0.1  # of the usual random kernels, so that no two channels are alike


def start(blocks: np.ndarray, n: int, m: int, seed: int = 0) -> dict[str, np.ndarray]:
  """float[b 16·i 16·j 3] pictures in 0…1 to arrays {'params/g_a/layers_0/kernel': …} of g_a and g_s."""
  rng, found, x = np.random.default_rng(seed), {}, blocks.astype(np.float64)
  for stage, width in enumerate((n, n, n, m)):
    basis, centre = _components(_blocks(x), width)
    scale, c, mirrored = 1 / STEP if stage == 3 else 1.0, x.shape[-1], 3 - stage
    down, up = f"params/g_a/layers_{2 * stage}", f"params/g_s/layers_{2 * mirrored}"
    bias = np.pad(-(centre @ basis) * scale, (0, width - basis.shape[1]))  # of what is not used: none
    found[f"{down}/kernel"] = _kernel(rng, c, width, basis * scale, 1.0)
    found[f"{down}/bias"] = bias.astype(np.float32)
    found[f"{up}/transposed"] = _kernel(rng, width, c, basis.T / scale, 0.5, transposed=True)
    found[f"{up}/bias"] = centre[:c].astype(np.float32)
    x = _forward(x, basis, centre, width)
    if mirrored:  # the last stage has no norm behind it
      found |= _nearly_linear(f"params/g_a/layers_{2 * stage + 1}", width)
      found |= _nearly_linear(f"params/g_s/layers_{2 * mirrored - 1}", width)
  return found | _known_scales(rng, x / STEP, n, m)


def _known_scales(rng: np.random.Generator, y: np.ndarray, n: int, m: int) -> dict[str, np.ndarray]:
  """What the hyperprior of mbt2018-mean foretells before it has learned anything: the mean size of each channel."""
  bias = np.concatenate([np.abs(y).mean((0, 1, 2)), np.zeros(m)])
  bound = 4 / np.sqrt(25 * n)  # larger than usual, so that z is not all rounded to zero
  kernel = rng.uniform(-bound, bound, (5, 5, n, n))
  return {"params/h_s/layers_4/bias": bias.astype(np.float32), "params/h_a/layers_4/kernel": kernel.astype(np.float32)}


def _blocks(x: np.ndarray) -> np.ndarray:
  """[b h w c] to [b h/2 w/2 4c], the samples of a 2×2 block side by side."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def _components(x: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
  """(the principal components float64[4c k], largest first, at most `width`; the mean of each channel, as [4c])."""
  flat = x.reshape(-1, x.shape[-1])
  c = flat.shape[1] // 4
  centre = np.tile(flat.mean(0).reshape(4, c).mean(0), 4)  # the same at all four places, as a bias can give it
  values, vectors = np.linalg.eigh(np.cov(flat.T))
  return vectors[:, np.argsort(-values)[:width]], centre


def _forward(x: np.ndarray, basis: np.ndarray, centre: np.ndarray, width: int) -> np.ndarray:
  y = (_blocks(x) - centre) @ basis
  return np.concatenate([y, np.zeros((*y.shape[:-1], width - y.shape[-1]))], axis=-1)


def _kernel(
  rng: np.random.Generator, c: int, width: int, matrix: np.ndarray, share: float, transposed: bool = False
) -> np.ndarray:
  """float32[5 5 c width]: little noise, and at the four taps of a block the matrix, [4c k] down or [k 4c] up.

  Taps 2 and 3 of each axis are those of a block: they take it apart, and give it back.
  """
  bound = NOISE * share / np.sqrt(25 * c)
  kernel = rng.uniform(-bound, bound, (5, 5, c, width))
  taps = [(2 + i, 2 + j) for i in range(2) for j in range(2)]
  for place, (i, j) in enumerate(taps):
    if transposed:
      kernel[i, j, : matrix.shape[0]] = matrix[:, place * width : (place + 1) * width]
    else:
      kernel[i, j, :, : matrix.shape[1]] = matrix[place * c : (place + 1) * c]
  return kernel.astype(np.float32)


def _nearly_linear(path: str, width: int) -> dict[str, np.ndarray]:
  """GDN or its inverse, as stored."""
  gamma = np.sqrt(BEND * np.eye(width) + PEDESTAL).astype(np.float32)
  return {f"{path}/beta": np.full(width, np.sqrt(1 + PEDESTAL), np.float32), f"{path}/gamma": gamma}


def with_context(mean: Loaded, pictures: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
  """Arrays of an mbt2018 that foretells what the mbt2018-mean does, whose arrays are among them.

  Features are brought to a like size, and means lifted to where leaky ReLUs are linear; the last layer takes both
  back. Scales are positive where it matters.

  Args:
    mean: its weights.
    pictures: float32[b 64·i 64·j 3] in 0…1, on which the size of features is measured.
  """
  rng, m = np.random.default_rng(seed), mean.m
  size = _feature_sizes(mean, pictures)
  inputs, hidden = 4 * m, (m * 10 // 3, m * 8 // 3)
  layers = [_random(rng, inputs, hidden[0]), _random(rng, hidden[0], hidden[1]), _random(rng, hidden[1], 2 * m)]
  for layer, gain in zip(layers, (1 / size, np.ones(2 * m), size)):  # features come first, and first in every layer
    layer[: 2 * m, : 2 * m] = np.diag(gain)
  layers[2][2 * m :] *= size
  biases, lift = [np.zeros(width) for width in (*hidden, 2 * m)], np.repeat([0.0, LIFT], m)
  biases[0][: 2 * m], biases[2][:] = lift, -lift * size
  found = dict(convert.flatten(mean.variables))
  for i, (layer, bias) in enumerate(zip(layers, biases)):
    found[f"params/entropy_parameters/layers_{2 * i}/kernel"] = layer[None, None].astype(np.float32)
    found[f"params/entropy_parameters/layers_{2 * i}/bias"] = bias.astype(np.float32)
  return found


def _random(rng: np.random.Generator, inputs: int, width: int) -> np.ndarray:
  bound = NOISE / np.sqrt(inputs)
  return rng.uniform(-bound, bound, (inputs, width))


def _feature_sizes(mean: Loaded, pictures: np.ndarray) -> np.ndarray:
  """float64[2m], the root mean square of what h_s foretells, at the middle level."""
  module = weights.module(mean)
  level = np.full(len(pictures), (mean.levels - 1) / 2, np.float32) if mean.levels else None
  y = module.apply(mean.variables, pictures, level, method="analysis")
  z_hat = np.rint(module.apply(mean.variables, y, level, method="hyper_analysis"))
  features = np.asarray(module.apply(mean.variables, z_hat, level, method="hyper_synthesis"), np.float64)
  return np.sqrt(np.square(features).mean((0, 1, 2))) + 0.1


def _read(folders: Sequence[str], n_blocks: int, seed: int) -> np.ndarray:
  """float32[n 64 64 3], windows of pictures drawn at random."""
  rng, found = np.random.default_rng(seed), []
  source = pictures("all", Path("/"), "+".join(str(Path(folder).absolute()) for folder in folders))
  while len(found) < n_blocks:
    clip = source.picture(int(rng.integers(len(source)))).clip
    if min(clip.shape[1:3]) < 64:
      continue
    top, left = (int(rng.integers(side - 63)) for side in clip.shape[1:3])
    found.append(clip[0, top : top + 64, left : left + 64] / np.float32(255))
  return np.stack(found)


def main() -> None:
  parser = argparse.ArgumentParser(description="Transforms to start training from, made of pictures.")
  parser.add_argument("folders", nargs="+")
  parser.add_argument("--n", type=int, default=48, help="channels of the transforms")
  parser.add_argument("--m", type=int, default=160, help="channels of y")
  parser.add_argument("--mean", metavar="FILE", help="weights of mbt2018-mean, for a start of mbt2018")
  parser.add_argument("--output", required=True, metavar="FILE", help="a .safetensors file")
  args = parser.parse_args()
  if args.mean:
    found = with_context(weights.load("mbt2018-mean", args.mean), _read(args.folders, 200, 0))
  else:
    found = start(_read(args.folders, 1500, 0), args.n, args.m)
  convert.write_safetensors(args.output, convert.to_foreign(convert.unflatten(found), keys.RULES))
  print(args.output)


if __name__ == "__main__":
  main()
