"""Peak memory of detecting and segmenting in many pictures, against a quarter of them.

    python benchmarks/dense_memory.py [--small] [--n=100] [--rounds=3]

From files of 160×160 to records, in batches of 4, with the small detector and the small segmenter of `models/`.
Predictions are kept, as for targets that are the network's own (`evaluate(keep_predictions=True)`): boxes and masks
stay, pictures do not. n pictures and 4·n, each in a process of its own, whose peak resident memory the system counts.
Target: four times the pictures, at most 1.1 times the memory. Batches are small because a step's buffers now and then
land beside their old place, once for all, which is to weigh little.
"""

import argparse
import pathlib
import statistics
import tempfile

import memory
import pictures
from result import Figure, finish

MODELS = {
  "nano_det.random(n_classes=80)": pictures.BOXES,
  "nano_seg.random(n_classes=11)": pictures.MASKS.format("camvid11"),
}
SIZE, BATCH, TIMES = (160, 160), 4, 4


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: one round of few pictures")
  parser.add_argument("--n", type=int, default=100)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--evaluate", type=pathlib.Path, help=argparse.SUPPRESS)  # the folder, in a measured process
  parser.add_argument("--model", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.small:
    args.n, args.rounds = 20, 1
  return args


def evaluate_folder(name: str, folder: pathlib.Path) -> None:
  """Evaluates and prints the peak of this process in MiB."""
  import networks

  from robust_compress import evaluate, named, tasks
  from robust_compress.data import pipeline, sources
  from robust_compress.types import View

  source, (model, _) = sources.open_source(MODELS[name], folder), named.load(name)
  task = tasks.load_task(model.task)
  predict = evaluate.Predictor(model, task).bind(networks.random_variables(model))
  batches = pipeline.eval_batches(source, model.input, View(resize=SIZE), BATCH)
  task.compute(evaluate.evaluate(predict, task, batches, keep_predictions=True).records["labels"])
  memory.print_peak()


def main() -> None:
  args = arguments()
  if args.evaluate:
    return evaluate_folder(args.model, args.evaluate)
  found, peaks, numbers = [], {}, (args.n, TIMES * args.n)
  with tempfile.TemporaryDirectory() as temporary:
    for n in numbers:
      pictures.write_dense(pathlib.Path(temporary, str(n)), n, SIZE)
    for name in MODELS:
      peaks[name] = {n: [] for n in numbers}
      for _ in range(args.rounds):
        for n in numbers:
          options = f"--evaluate={pathlib.Path(temporary, str(n))}", f"--model={name}"
          peaks[name][n].append(memory.peak(__file__, *options))
      few, many = (statistics.median(peaks[name][n]) for n in numbers)
      short = name.partition(".")[0]
      found += [Figure(f"{short}: peak at {n} pictures, MiB", statistics.median(peaks[name][n])) for n in numbers]
      found.append(Figure(f"{short}: peak at {numbers[1]} / at {numbers[0]}", many / few, "<=", 1.1))
  return finish("dense_memory", found, args.small, batch=BATCH, size=SIZE, peaks=peaks)


if __name__ == "__main__":
  main()
