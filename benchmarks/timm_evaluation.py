"""The other side of `evaluation.py`: timm's network in PyTorch, fed from files by a DataLoader.

    python benchmarks/timm_evaluation.py MODEL FOLDER N BATCH

Says its versions, then answers every line, 'bare' or a number of loader workers, with the seconds for N pictures. Needs
torch, torchvision and timm, and nothing of this project but `tests/golden/reference.py`. All is as a user of
timm has it by default: timm's own transform, inference mode, all cores for the network; workers stay from pass to pass.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "golden"))

import reference
import timm
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Files(Dataset):
  """(picture, label) of the first n files of class folders, in the order in which this project reads them."""

  def __init__(self, folder: pathlib.Path, n: int, transform):
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [(path, label) for label, folder in enumerate(classes) for path in sorted(folder.iterdir())]
    self.files, self.transform = files[:n], transform

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int):
    path, label = self.files[index]
    with Image.open(path) as image:
      return self.transform(image.convert("RGB")), label


def score(network: torch.nn.Module, image: torch.Tensor, label: torch.Tensor) -> int:
  top5 = network(image).topk(5).indices
  return int((top5 == label[:, None]).any(1).sum())


@torch.inference_mode()
def serve(network: torch.nn.Module, files: Files, batch: int) -> None:
  one = torch.randn(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.int64)
  ways: dict[str, Iterable] = {"bare": [one] * (len(files) // batch)}
  for line in sys.stdin:
    way = line.strip()
    if way not in ways:
      ways[way] = DataLoader(files, batch, num_workers=int(way), persistent_workers=int(way) > 0)
    start = time.perf_counter()
    for image, label in ways[way]:
      score(network, image, label)
    print(time.perf_counter() - start, flush=True)


def main(name: str, folder: str, n: int, batch: int) -> None:
  network = reference.build(f"timm:{name}")
  transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
  n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  files = Files(pathlib.Path(folder), n, transform)
  versions = {module.__name__: module.__version__ for module in (torch, torchvision, timm)}
  print(json.dumps({**versions, "threads": torch.get_num_threads(), "cores": n_cores}), flush=True)
  serve(network, files, batch)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
