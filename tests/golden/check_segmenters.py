"""Every segmenter with a reference at full width against it, on the same seeded weights:

    PYTHONPATH=. python tests/golden/check_segmenters.py [name …]

Runs where make_segmenters.py does, with jax; a few minutes on two cores, 8 GB of memory. The weights leave through
`convert.to_foreign`, and the reference takes all of them, beside the constants of Swin's windows. Pictures are of
257×257 for the 769² configurations, 90×120 for SegNet and 256×256 else. Fails where max |Δ logit| > 1e-4 · max(1,
max |logit|), or where a class differs whose logit leads by more than that.
"""

import sys
import tempfile
import time
from pathlib import Path

import jax
import make_segmenters
import mmseg_reference
import numpy as np
import seeded
import torch
import transformers
from make_segmenters import constant

from robust_compress import convert, models


def check(name: str) -> float:
  """The largest difference of logits, as a share of max(1, the largest logit)."""
  model = models.load_model(name)
  sizes = {"deeplabv3": (257, 257), "upernet_r": (257, 257), "segnet": (90, 120)}
  picture = seeded.picture(next((size for key, size in sizes.items() if name.startswith(key)), (256, 256)), 1)
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), models.template(model))
  shapes = {key: array.shape for key, array in convert.to_foreign(zeros, model.rules).items()}
  variables = convert.to_variables(seeded.state_dict(shapes), model.rules, models.template(model), name)
  expected = answer(name, convert.to_foreign(variables, model.rules), picture)
  with jax.default_matmul_precision("highest"):
    apply = jax.jit(lambda variables, picture: model.module().apply(variables, picture, train=False)["logits"])
    actual = np.asarray(apply(variables, picture))
  scale = max(1.0, float(np.abs(expected).max()))
  best = np.sort(expected, -1)
  decided = best[..., -1] - best[..., -2] > 1e-4 * scale
  if (actual.argmax(-1) != expected.argmax(-1))[decided].any():
    return float("inf")
  return float(np.abs(actual - expected).max() / scale)


def answer(name: str, arrays: dict[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
  """Logits [n h w k] of the reference with these weights."""
  x = torch.from_numpy(picture).permute(0, 3, 1, 2)
  with torch.inference_mode():
    if ".hf_" in name:
      return from_hub(arrays)(x).logits.permute(0, 2, 3, 1).numpy()
    if name.startswith("segnet"):
      theirs = make_segmenters.SegNet((64, 128, 256, 512, 512), 11).eval()
      mmseg_reference.load(theirs, arrays)
      return theirs(x).permute(0, 2, 3, 1).numpy()
    theirs = mmseg_reference.full_size(name)
    arrays |= {key: value.numpy() for key, value in theirs.state_dict().items() if constant(key)}
    mmseg_reference.load(theirs, arrays)
    return mmseg_reference.logits(theirs, x).permute(0, 2, 3, 1).numpy()


def from_hub(arrays: dict[str, np.ndarray]) -> torch.nn.Module:
  with tempfile.TemporaryDirectory() as folder:
    make_segmenters.hub_config(reduced=False).save_pretrained(folder)
    convert.write_safetensors(Path(folder) / "model.safetensors", arrays)
    model, said = transformers.UperNetForSemanticSegmentation.from_pretrained(folder, output_loading_info=True)
  if any(said.values()):
    raise SystemExit(f"transformers takes only a part of the file: {said}")
  return model.eval()


def main(names: list[str]) -> None:
  rows = [row.name for row in models.SEGMENTERS if not row.name.startswith(("nano", "segnet.vgg16_bn"))]
  worst = 0.0
  for name in names or rows:
    start = time.time()
    difference = check(name)
    worst = max(worst, difference)
    print(f"{name:42} {difference:.1e}  {time.time() - start:.0f} s", flush=True)
  sys.exit(f"the largest difference is {worst:.1e}; at most 1e-4 is allowed" if not worst <= 1e-4 else 0)


if __name__ == "__main__":
  main(sys.argv[1:])
