"""The kit's real weights on its 250 ImageNet pictures, ours against PyTorch on the very same pixels:

    PYTHONPATH=. python tests/golden/check_kit.py KIT

Runs in an environment with this project, torch and torchvision; minutes on two cores. Prints top-1 of SqueezeNet 1.0
and MobileNetV2, on the originals and behind JPEG (view resize=256, crop=224), and fails where SqueezeNet's prediction
differs from torchvision's for more than one picture at any quality. PyTorch has no network of MobileNetV2's npz.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import reference
import torch

from robust_compress import convert, models, provenance
from robust_compress.codecs import load_codec
from robust_compress.data import labels, sources
from robust_compress.types import Weights

PICTURES = "csv(path=imagenet_samples,resize=256,crop=224,interpolation=bilinear,input=asis):all"
WEIGHTS = {
  "squeezenet1_0.tv_in1k": "weights/squeezenet1_0/squeezenet1_0_tv.pth",
  "mobilenet_v2_tf.in1k": "weights/mobilenet_v2/mobilenet_v2_1.0_224_dequant_hwio.npz",
}
QUALITIES = (None, 95, 75, 50, 30, 15, 10, 5)
BATCH = 50


def logits(name: str, path: Path, image: np.ndarray) -> np.ndarray:
  """Ours, float32[b k]."""
  model = models.load_model(name)
  model = dataclasses.replace(model, base=Weights(f"file:{provenance.sha256_file(path)}"))
  variables = models.load_weights(model, path)
  apply = jax.jit(lambda variables, image: model.apply(variables, {"image": image})[0])
  with jax.default_matmul_precision("highest"):
    return np.concatenate([apply(variables, part) for part in _parts(image)])


def torch_logits(path: Path, image: np.ndarray) -> np.ndarray:
  network, spec = reference.build("torchvision:squeezenet1_0"), models.load_model("squeezenet1_0.tv_in1k")
  reference.load(network, convert.read(path))
  with torch.inference_mode():
    return np.concatenate([reference.logits(network, spec.normalise(part)).numpy() for part in _parts(image)])


def _parts(image: np.ndarray) -> Iterator[np.ndarray]:
  return (image[i : i + BATCH] for i in range(0, len(image), BATCH))


def main(kit: Path) -> None:
  data = sources.parse_data(PICTURES)
  source = sources.ViewedSource(sources.open_source(data, kit), data.view)
  clips = [source.picture(i).clip for i in range(len(source))]
  truth = {name: _labels(source, models.load_model(name).classes) for name in WEIGHTS}
  worst, jpeg = 0, load_codec("jpeg")
  for quality in QUALITIES:
    coded = [] if quality is None else jpeg.encode(clips, [quality] * len(clips))
    image = np.concatenate(clips if quality is None else jpeg.decode([one.blob for one in coded]))
    found = {name: logits(name, kit / file, image).argmax(1) for name, file in WEIGHTS.items()}
    name, file = next(iter(WEIGHTS.items()))
    differing = int((found[name] != torch_logits(kit / file, image).argmax(1)).sum())
    worst = max(worst, differing)
    scores = ", ".join(f"{name} {np.mean(top1 == truth[name]):.1%}" for name, top1 in found.items())
    print(f"{'original' if quality is None else f'jpeg@{quality}':9} {scores}; {differing} differ", flush=True)
  sys.exit(f"{worst} predictions differ from torchvision's; at most 1 may" if worst > 1 else 0)


def _labels(source: sources.ViewedSource, classes: str) -> np.ndarray:
  relabelled = labels.RelabelledSource(source, labels.class_list(classes))
  return np.array([relabelled.target(i)["label"] for i in range(len(relabelled))])


if __name__ == "__main__":
  main(Path(sys.argv[1]))
