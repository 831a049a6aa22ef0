"""Evaluation from JPEG files to scores, against the bare compiled step, and against timm in PyTorch.

    python benchmarks/evaluation.py [--small] [--folder=DIR] [--torch[=PYTHON]] [--models=a,b] [--n=192] [--rounds=3]

For every model, with random weights at 224 pixels in batches of 32, pictures a second of
  bare        the compiled step on a batch that lies on the device
  threads     files ─▶ eval_batches ─▶ evaluate: what a study does, by the input pipeline of that name
  tf.data     the same by the other
  torch bare  timm's network of the same name on a tensor in memory, in PyTorch (with --torch)
  torch K     files ─▶ timm's transform ─▶ DataLoader of K workers ─▶ network ─▶ top 5, for no worker and one a core
One after the other, round by round, so that whatever else the machine does falls on all of them; figures are medians
over the rounds of ratios within a round. Targets: end to end at least 0.95 of bare, and at least 1.0 of the better of
PyTorch's. Other work on the same cores slows PyTorch by far more than us: measure on a quiet machine.

PyTorch works in a process of its own (see `timm_evaluation.py`) that sleeps while it is not measured: with --torch in
this Python, or in PYTHON, that of any environment with torch, torchvision and timm.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import jax
import networks
import pictures
from peer import Peer
from result import Figure, finish

from robust_compress import evaluate, models, tasks
from robust_compress.data import pipeline, sources
from robust_compress.types import ModelSpec, Source, View

MODELS = "resnet50.a1_in1k,swin_tiny_patch4_window7_224.ms_in1k"
SIZE = 432  # as many pixels as ImageNet's usual 500 × 375
BACKENDS = ("threads", "tf.data")


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: one round of few pictures")
  parser.add_argument("--folder", type=pathlib.Path, help="class folders of pictures; default: makes some")
  parser.add_argument("--torch", nargs="?", const=sys.executable, help="Python with torch and timm; default: this one")
  parser.add_argument("--models", default=MODELS)
  for name, default in (("n", 192), ("batch", 32), ("rounds", 3)):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  if args.small:
    args.n, args.batch, args.rounds = 16, 8, 1
  return args


def ways(model: ModelSpec, source: Source, batch: int) -> dict[str, Callable[[], float]]:
  """{way: seconds of one pass over the source}, all compiled."""
  task, variables = tasks.load_task("classification"), networks.random_variables(model)
  predict = evaluate.Predictor(model, task).bind(variables)

  def end_to_end(backend: str) -> float:
    start = time.perf_counter()
    batches = pipeline.eval_batches(source, model.input, View(), batch, backend=backend)
    evaluate.evaluate(predict, task, batches)
    return time.perf_counter() - start

  bare = partial(networks.timed, networks.bare_step(model, task, variables, batch), len(source) // batch)
  return {"bare": bare, **{backend: partial(end_to_end, backend) for backend in BACKENDS}}


def measure(ways: dict[str, Callable[[], float]], n: int, rounds: int) -> dict[str, list[float]]:
  """{way: pictures a second, round by round}, after a round that does not count."""
  rates: dict[str, list[float]] = {name: [] for name in ways}
  for number in range(rounds + 1):
    for name, way in ways.items():
      seconds = way()
      if number:
        rates[name].append(round(n / seconds, 3))
  return rates


def figures(name: str, rates: dict[str, list[float]]) -> list[Figure]:
  def ratio(a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(rates[a], rates[b], strict=True))

  found = [Figure(f"{name}: {way}, pictures/s", statistics.median(values)) for way, values in rates.items()]
  found += [Figure(f"{name}: {way} / bare", ratio(way, "bare"), ">=", 0.95) for way in BACKENDS]
  if "torch bare" in rates:
    best = max((way for way in rates if way[-1].isdigit()), key=lambda way: statistics.median(rates[way]))
    found.append(Figure(f"{name}: bare / torch bare", ratio("bare", "torch bare")))
    found.append(Figure(f"{name}: threads / {best} workers", ratio("threads", best), ">=", 1.0))
  return found


def main() -> None:
  args = arguments()
  jax.config.update("jax_default_matmul_precision", "highest")  # as in a study
  found, rates, torch_versions = [], {}, {}
  with tempfile.TemporaryDirectory() as temporary:
    folder = args.folder or pathlib.Path(temporary)
    if args.folder is None:
      pictures.write(folder, args.n, SIZE)
    source = sources.open_source("folders(path=.):all", folder)
    n = min(args.n, len(source)) // args.batch * args.batch  # whole batches: padding would count against us
    source = source.sliced(0, n)
    n_bytes = sum(file.path.stat().st_size for file in source.files) / n
    for name in args.models.split(","):
      short = name.partition("_")[0].partition(".")[0]
      to_measure = ways(models.load_model(name), source, args.batch)
      torch = Peer("--torch", args.torch, "timm_evaluation.py", name, folder, n, args.batch) if args.torch else None
      if torch:  # it answers with seconds for all pictures: bare, or through a loader of that many workers
        to_measure |= {f"torch {way}": partial(torch.ask, way) for way in ("bare", "0", str(torch.versions["cores"]))}
      rates[name] = measure(to_measure, n, args.rounds)
      found += figures(short, rates[name])
      if torch:
        torch_versions = torch.versions
        torch.close()
  sizes = {"pictures": n, "batch": args.batch, "rounds": args.rounds, "bytes_a_picture": round(n_bytes)}
  finish("evaluation", found, args.small, **sizes, rates=rates, device=networks.device(), torch_versions=torch_versions)


if __name__ == "__main__":
  main()
