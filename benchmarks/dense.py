"""Detectors and a segmenter: evaluation from JPEG files, against the bare compiled step, and against PyTorch.

    python benchmarks/dense.py [--small] [--torch=PYTHON] [--models=a,b] [--batches=1,4] [--n=4] [--rounds=3]

DETR-R50, Faster R-CNN-R50-FPN and UPerNet-Swin-T with random weights, on pictures of 480×640, each brought to its own
size as in a study: 800×1066 on a canvas of 800×1088 for the detectors, 512×682 on 512×704 for UPerNet (--input=asis
feeds the pictures as they are). For every model and size of batch, pictures a second of
  bare        the compiled step, post-processing included, on a batch that lies on the device
  end to end  files ─▶ eval_batches ─▶ evaluate: what a study does, to records with boxes or masks
  PyTorch     transformers' or torchvision's network on a tensor of the same size, with its post-processing
Targets: end to end at least 0.95 of bare, bare at least 1.0 of PyTorch. And the share of the step that is
  post-processing  what is left to do when logits are there: DETR's classes and sorting; Faster R-CNN's decoding and
                   suppression behind the second stage; logits to the classes of the view's pixels. Target: under 0.10
  proposals        Faster R-CNN's choice between its stages
which are compiled and timed on their own, on noise of the right shapes.

One after the other, round by round, after a step that does not count; figures are medians over the rounds of ratios
within a round. PyTorch works in a process of its own (`torch_dense.py`), in the environment of PYTHON, and sleeps while
it is not measured. A network that it cannot run is named in the last line with the reason.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pictures
from peer import Peer
from result import Figure, finish

from robust_compress import evaluate, models, parallel, tasks
from robust_compress.data import labels, pipeline, sources
from robust_compress.models import detr, roi_heads, rpn
from robust_compress.types import Batch, ModelSpec, Source, Task, View

MODELS = "detr_resnet50.coco,fasterrcnn_resnet50_fpn.tv_coco,upernet_swin_tiny.hf_ade20k"
SIZE, SMALL_SIZE = (480, 640), (96, 128)
DATA = {"detection": pictures.BOXES, "segmentation": pictures.MASKS.format("ade150")}
N_SHORT = 8  # times that what is short is done in a round

Ways = dict[str, Callable[[int], float]]  # of a number of steps: seconds a step


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: one round of small pictures as they are")
  parser.add_argument("--torch", help="Python with torch, transformers, timm and torchvision; default: ours alone")
  parser.add_argument("--models", default=MODELS)
  parser.add_argument("--batches", default="1,4")
  parser.add_argument("--input", default="model", choices=("model", "asis"))
  for name, default in (("n", 4), ("rounds", 3)):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  if args.small:
    args.rounds, args.input = 1, "asis"
  if any(args.n % int(size) for size in args.batches.split(",")):
    parser.error(f"--n={args.n} pictures do not make whole batches of --batches={args.batches}")
  return args


def opened(model: ModelSpec, folder: pathlib.Path, view: View, n: int) -> Source:
  """The first n pictures as a study sees them."""
  source = sources.ViewedSource(sources.open_source(DATA[model.task], folder).sliced(0, n), view)
  return labels.RelabelledSource(source, labels.class_list(model.classes))


def ways(model: ModelSpec, folder: pathlib.Path, view: View, batch_size: int) -> tuple[Ways, Batch]:
  """What there is to measure, compiled or by the first call, and a batch."""
  task, variables = tasks.load_task(model.task), networks.random_variables(model)
  predict = evaluate.Predictor(model, task).bind(variables)

  def batches(n_steps: int) -> Iterator[Batch]:
    source = opened(model, folder, view, n_steps * batch_size)
    return pipeline.eval_batches(source, model.input, view, batch_size)

  first = parallel.device_part(next(batches(1)))
  step = networks.bare_step(model, task, variables, first)
  parts = {name: networks.compiled(part, *given) for name, (part, given) in parts_of(model, task, first).items()}

  def end_to_end(n_steps: int) -> float:
    start = time.perf_counter()
    evaluate.evaluate(predict, task, batches(n_steps))
    return (time.perf_counter() - start) / n_steps

  def bare(n_steps: int) -> float:
    return networks.timed(step, n_steps) / n_steps

  def short(part: Callable[[], Any], n_steps: int) -> float:
    return networks.timed(part, N_SHORT) / N_SHORT

  made: Ways = {"bare": bare, "end to end": end_to_end}
  return made | {name: partial(short, part) for name, part in parts.items()}, first


def parts_of(model: ModelSpec, task: Task, batch: Batch) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
  """{name: (a part of the step, its arguments)}, of noise."""
  rng, module = np.random.default_rng(0), model.module()
  n, height, width, _ = batch["image"].shape
  sizes = batch["place"][:, 4:].astype(np.int32)

  def noise(*shape: int) -> np.ndarray:
    return rng.standard_normal((n, *shape), np.float32)

  def finished(made: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: task.predict(made(*given), batch)

  if model.task == "segmentation":
    return {"post-processing": (finished(lambda x: {"logits": x}), (noise(height, width, module.n_classes),))}
  if isinstance(module, detr.Detr):
    found = noise(module.n_queries, module.n_classes + 1), jax.nn.sigmoid(noise(module.n_queries, 4))
    return {"post-processing": (finished(detr.detections), (*found, sizes))}
  maps = [jnp.zeros((n, -(-height // stride), -(-width // stride), 1)) for stride in module.strides]
  raw = rpn.anchors(maps, sizes, rpn.extents(sizes, module.strides), module.first.anchor_sizes)
  raw = rpn.Raw([noise(x.shape[1]) for x in raw[0]], [0.1 * noise(x.shape[1], 4) for x in raw[0]], *raw)
  propose = partial(rpn.propose, options=module.first, train=False)
  proposals = propose(raw, sizes)
  found = (noise(proposals.boxes.shape[1], module.n_classes, *more) for more in ((), (4,)))
  detect = partial(roi_heads.detect, options=module.second)
  return {"proposals": (propose, (raw, sizes)), "post-processing": (finished(detect), (*found, proposals, sizes))}


def measure(ways: Ways, n_steps: int, rounds: int) -> dict[str, list[float]]:
  """{way: seconds a step, round by round}, after a step that does not count."""
  for way in ways.values():
    way(1)
  found: dict[str, list[float]] = {name: [] for name in ways}
  for _ in range(rounds):
    for name, way in ways.items():
      found[name].append(round(way(n_steps), 6))
  return found


def figures(name: str, seconds: dict[str, list[float]], batch_size: int) -> list[Figure]:
  def ratio(a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True))

  whole = [way for way in ("bare", "end to end", "PyTorch") if way in seconds]
  found = [Figure(f"{name}: {way}, pictures/s", batch_size / statistics.median(seconds[way])) for way in whole]
  found.append(Figure(f"{name}: end to end / bare", ratio("bare", "end to end"), ">=", 0.95))
  if "PyTorch" in seconds:
    found.append(Figure(f"{name}: bare / PyTorch", ratio("PyTorch", "bare"), ">=", 1.0))
  found.append(Figure(f"{name}: post-processing / step", ratio("post-processing", "bare"), "<=", 0.1))
  if "proposals" in seconds:
    found.append(Figure(f"{name}: proposals / step", ratio("proposals", "bare")))
  return found


def compared(
  name: str, folder: pathlib.Path, view: View, batch_size: int, args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, Any]]:
  """What `measure` gives of a model, and the versions of the other side, or what it is 'missing'."""
  model = models.load_model(name)
  to_measure, batch = ways(model, folder, view, batch_size)
  n_steps = args.n // batch_size
  if not args.torch:
    return measure(to_measure, n_steps, args.rounds), {}
  sizes = (*batch["place"][0, 4:].astype(int), *batch["image"].shape[1:3], *view.resize)
  peer = Peer("--torch", args.torch, "torch_dense.py", name, batch_size, *sizes)
  if "missing" not in peer.versions:
    to_measure["PyTorch"] = lambda n_steps: peer.ask(n_steps) / n_steps
  found = measure(to_measure, n_steps, args.rounds)
  peer.close()
  return found, peer.versions


def main() -> None:
  args = arguments()
  jax.config.update("jax_default_matmul_precision", "highest")  # as in a study
  size = SMALL_SIZE if args.small else SIZE
  view, made, seconds, versions, missing = View(resize=size, input=args.input), [], {}, {}, {}
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    pictures.write_dense(folder, args.n, size)
    for name in args.models.split(","):
      for batch_size in map(int, args.batches.split(",")):
        case = f"{name.partition('_')[0]}, batch {batch_size}"
        seconds[case], said = compared(name, folder, view, batch_size, args)
        made += figures(case, seconds[case], batch_size)
        (missing if "missing" in said else versions).update({name: said["missing"]} if "missing" in said else said)
        print(case, seconds[case], said, file=sys.stderr, flush=True)
  details = {"pictures": args.n, "rounds": args.rounds, "size": size, "input": args.input, "models": args.models}
  peer = {"torch_versions": versions, "torch_missing": missing}
  finish("dense", made, args.small, **details, seconds=seconds, device=networks.device(), **peer)


if __name__ == "__main__":
  main()
