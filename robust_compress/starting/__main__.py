"""The command that writes a start.

python -m robust_compress.starting FOLDER… --output=start.safetensors                  for mbt2018-mean
python -m robust_compress.starting FOLDER… --mean=mbt2018-mean.safetensors --output=…   for mbt2018
python -m robust_compress.starting FOLDER… --network=cheng2020-gmm --output=…           for that
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_compress import convert
from robust_compress.codecs.learned import weights
from robust_compress.codecs.learned.networks import keys
from robust_compress.data.picture_folders import pictures
from robust_compress.starting import residual, strided
from robust_compress.starting.context import with_context
from robust_compress.types import DataError, RobustCompressError, SpecError

STARTS = {"mbt2018-mean": (strided.start, 48, 160), "cheng2020-gmm": (residual.start, 48, 120)}  # and the n and m here
SIDE = 64  # of the windows that are looked at
N_WINDOWS, N_MEASURED = 1500, 200  # of which components are taken; on which features are measured
PATIENCE = 100  # draws for each picture, before a window must have been found


def main() -> None:
  args = _parser().parse_args()
  try:
    found = _start(args)
    convert.write_safetensors(args.output, convert.to_foreign(convert.unflatten(found), keys.RULES))
  except RobustCompressError as error:
    sys.exit(f"robust_compress.starting: {error}")
  print(args.output)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("robust_compress.starting", description="Weights to start from, made of pictures.")
  parser.add_argument("folders", nargs="+")
  kind = parser.add_mutually_exclusive_group()
  kind.add_argument("--network", choices=STARTS, default="mbt2018-mean", help="what starts from principal components")
  kind.add_argument("--mean", metavar="FILE", help="weights of mbt2018-mean, for a start of mbt2018")
  parser.add_argument("--n", type=_width, help="channels of the transforms: 48")
  parser.add_argument("--m", type=_width, help="channels of y: 160, of cheng2020-gmm 120")
  parser.add_argument("--output", required=True, metavar="FILE", help="a .safetensors file")
  return parser


def _start(args: argparse.Namespace) -> dict[str, np.ndarray]:
  if args.mean:
    if args.n or args.m:
      raise SpecError("--mean gives the widths; leave --n and --m out")
    return with_context(weights.load("mbt2018-mean", args.mean), windows(args.folders, N_MEASURED))
  start, n, m = STARTS[args.network]
  return start(windows(args.folders, N_WINDOWS), args.n or n, args.m or m)


def _width(text: str) -> int:
  if not text.isdecimal() or int(text) < 2:
    raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 2")
  return int(text)


def windows(folders: Sequence[str], n: int, seed: int = 0) -> np.ndarray:
  """float32[n 64 64 3] in 0…1: windows of pictures below some folders, drawn at random.

  Raises:
    DataError: no pictures, or none as large as a window.
  """
  rng, found, n_small = np.random.default_rng(seed), [], 0
  source = pictures("all", Path("/"), "+".join(str(Path(folder).absolute()) for folder in folders))
  while len(found) < n:
    clip = source.picture(int(rng.integers(len(source)))).clip
    if min(clip.shape[1:3]) < SIDE:
      n_small += 1
      if not found and n_small > PATIENCE * len(source):
        raise DataError(f"{', '.join(folders)}: expected pictures of {SIDE}×{SIDE} or more, and none was found")
      continue
    top, left = (int(rng.integers(side - SIDE + 1)) for side in clip.shape[1:3])
    found.append(clip[0, top : top + SIDE, left : left + SIDE] / np.float32(255))
  return np.stack(found)


if __name__ == "__main__":
  main()
