"""Peak memory of evaluating many pictures, against a tenth of them.

    python benchmarks/memory.py [--small] [--n=2000] [--rounds=3] [--backend=threads]

A study's verb `evaluate`, from files to rows with their intervals and records, on folders of n and 10·n JPEG pictures
of 64 pixels, in batches of 32, with `nano.random`: each in a process of its own, whose peak resident memory the system
counts.
Target: ten times the pictures, at most 1.1 times the memory. The smaller the network, the harder the target.
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import pictures
from result import Figure, finish

SIZE = 64


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: one round of few pictures")
  parser.add_argument("--n", type=int, default=2000)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--backend", default="threads")
  parser.add_argument("--evaluate", type=pathlib.Path, help=argparse.SUPPRESS)  # the folder, in a measured process
  args = parser.parse_args()
  if args.small:
    args.n, args.rounds = 40, 1
  return args


def evaluate(folder: pathlib.Path, backend: str) -> None:
  """Evaluates and prints the peak of this process in MiB."""
  from robust_compress import settings, study

  config = settings.default_config()
  config.models, config.protocols = ("nano.random",), ("baseline",)
  config.batch_size = 32  # as in evaluation.py
  config.data_dir, config.test_data, config.backend = str(folder), "folders(path=.):all", backend
  with tempfile.TemporaryDirectory() as workdir:
    study.Study(config, workdir).evaluate()
  print_peak()


def print_peak() -> None:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
  print(peak / 2 ** (20 if sys.platform == "darwin" else 10))


def peak(script: str, *options: str) -> float:
  """MiB, as a script prints them in a new process. Its count starts at the size of this one, so do not import jax."""
  command = [sys.executable, script, *options]
  return round(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout), 1)


def main() -> None:
  args = arguments()
  if args.evaluate:
    return evaluate(args.evaluate, args.backend)
  numbers = (args.n, 10 * args.n)
  peaks: dict[int, list[float]] = {n: [] for n in numbers}
  with tempfile.TemporaryDirectory() as temporary:
    for n in numbers:
      pictures.write(pathlib.Path(temporary, str(n)), n, SIZE)
    for _ in range(args.rounds):
      for n in numbers:
        folder = pathlib.Path(temporary, str(n))
        peaks[n].append(peak(__file__, f"--evaluate={folder}", f"--backend={args.backend}"))
  few, many = (statistics.median(peaks[n]) for n in numbers)
  found = [Figure(f"peak at {n} pictures, MiB", statistics.median(peaks[n])) for n in numbers]
  found.append(Figure(f"peak at {10 * args.n} / at {args.n}", many / few, "<=", 1.1))
  return finish("memory", found, args.small, backend=args.backend, peaks=peaks)


if __name__ == "__main__":
  main()
