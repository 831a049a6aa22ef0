"""The other side of `learned.py`: a network of CompressAI, with weights from a file, that codes one picture.

    python benchmarks/compressai_coding.py NETWORK N M WEIGHTS.npz PICTURE.npy

Says its versions, then answers every line, a number of threads, with seconds as JSON: of compress, of decompress, and
of what of these passes in the autoregressive stage, entropy coding included. Needs torch, torchvision, timm and
compressai, and nothing of this project but `tests/golden/reference.py`.
"""

import json
import pathlib
import sys
import time
from collections import Counter
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "golden"))

import numpy as np
import reference  # noqa: F401 - makes torchvision importable, which compressai wants
import torch

# isort: split
import compressai
from compressai.zoo import image


def load(name: str, n: int, m: int, weights: str) -> torch.nn.Module:
  network = image.model_architectures[name]
  net = network(n) if name.startswith("cheng2020") else network(n, m)
  arrays = np.load(weights)
  for key, value in net.named_parameters():
    if value.shape != arrays[key].shape:
      sys.exit(f"{name}: {key} is {tuple(value.shape)} in CompressAI, {arrays[key].shape} here")
    value.data = torch.from_numpy(arrays[key])
  net.eval().update(force=True)
  return net


def watched(net: torch.nn.Module) -> Counter[str]:
  """Seconds in the stage, by side; of other networks, none."""
  spent: Counter[str] = Counter()

  def watch(side: str, inner: Any) -> Any:
    def timed(*arguments: Any) -> Any:
      start = time.perf_counter()
      result = inner(*arguments)
      spent[side] += time.perf_counter() - start
      return result

    return timed

  for side in ("compress", "decompress"):
    if inner := getattr(net, f"_{side}_ar", None):
      setattr(net, f"_{side}_ar", watch(side, inner))
  return spent


@torch.inference_mode()
def serve(net: torch.nn.Module, picture: np.ndarray) -> None:
  x, spent = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None], watched(net)
  for line in sys.stdin:
    torch.set_num_threads(int(line))
    spent.clear()
    start = time.perf_counter()
    coded = net.compress(x)
    middle = time.perf_counter()
    net.decompress(coded["strings"], coded["shape"])
    times = {"encode": middle - start, "decode": time.perf_counter() - middle}
    n_bytes = sum(len(string) for strings in coded["strings"] for string in strings)
    print(json.dumps({"threads": int(line), **times, "stages": sum(spent.values()), "bytes": n_bytes}), flush=True)


def main(name: str, n: str, m: str, weights: str, picture: str) -> None:
  versions = {"compressai": compressai.__version__, "torch": torch.__version__, "numpy": np.__version__}
  net = load(name, int(n), int(m), weights)
  print(json.dumps(versions), flush=True)
  serve(net, np.load(picture))


if __name__ == "__main__":
  main(*sys.argv[1:])
