"""Peak memory of coding many small pictures, against a tenth of them.

    python benchmarks/coding_memory.py [--small] [--n=10000] [--rounds=2]

`compress` to JPEG of quality 30, of n and 10·n pictures of 32 pixels that are made as they are asked for: each in a
process of its own, whose peak resident memory the system counts. Target: ten times the pictures, at most 1.1 times the
memory. What grows is the index, 72 bytes a picture, and the ids.
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

from result import Figure, finish

SIZE, QUALITY = 32, 30


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test of few pictures")
  parser.add_argument("--n", type=int, default=10_000)
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--code", type=int, help=argparse.SUPPRESS)  # how many, in a measured process
  args = parser.parse_args()
  if args.small:
    args.n, args.rounds = 200, 1
  return args


def code(n: int) -> None:
  """Codes n pictures and prints the peak of this process in MiB, and the seconds it took."""
  from codec_stage import Noise, spent

  from robust_compress.codecs import load_codec
  from robust_compress.compress import compress

  source, codec = Noise(n, SIZE), load_codec("jpeg")
  with tempfile.TemporaryDirectory() as folder:
    wall, _ = spent(lambda: compress(source, codec, QUALITY, pathlib.Path(folder, "coded"), progress=False))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
  print(peak / 2 ** (20 if sys.platform == "darwin" else 10), wall)


def measured(n: int) -> tuple[float, float]:
  command = [sys.executable, __file__, f"--code={n}"]
  peak, wall = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
  return round(float(peak), 1), round(float(wall), 2)


def main() -> None:
  args = arguments()
  if args.code:
    return code(args.code)
  rounds = [(measured(args.n), measured(10 * args.n)) for _ in range(args.rounds)]
  few, many = (statistics.median(pair[i][0] for pair in rounds) for i in (0, 1))
  found = [Figure(f"peak coding {args.n} pictures, MiB", few), Figure(f"peak coding {10 * args.n}, MiB", many)]
  found.append(Figure(f"peak coding {10 * args.n} / {args.n}", many / few, "<=", 1.1))
  return finish("coding_memory", found, args.small, rounds=rounds)


if __name__ == "__main__":
  main()
