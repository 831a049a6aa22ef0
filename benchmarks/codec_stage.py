"""The codec stage against a bare loop of Pillow calls, per core.

    python benchmarks/codec_stage.py [--n=4000] [--size=384] [--quality=30] [--workers=N]

`write` is `compress` of pictures in memory to shards on disk, with checksums, index and manifest; `read` is
`CodedSource.picture` in random order. The bare loops are `Image.save` to memory and `np.array(Image.open(…))` from
memory, of the same pictures in as many threads. Rounds alternate and the best counts, as other work on the machine only
ever slows one down; CPU seconds of the whole process stand beside. Target: at most 10 % over bare. Ends in a JSON line.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from result import Figure, finish

from robust_compress.codecs import load_codec
from robust_compress.compress import compress
from robust_compress.data.cache import CodedSource
from robust_compress.types import Picture


class Noise:
  """16 pictures over and over, as a `types.Source`. A spectrum of 1/f^1.2 gives JPEG the rates of photographs."""

  classes = ()

  def __init__(self, n: int, size: int):
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    planes = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(16, 4, size, size))) / frequency**1.2, (size, size))
    planes /= planes.std(axis=(-2, -1), keepdims=True)
    colour = 128 + 45 * planes[:, :1] + 12 * planes[:, 1:]
    self.n, self.clips = n, np.moveaxis(colour, 1, -1).clip(0, 255).astype(np.uint8)[:, None]

  def __len__(self) -> int:
    return self.n

  def id(self, index: int) -> str:
    return f"noise/{index:08d}.png"

  def target(self, index: int) -> dict[str, np.ndarray]:
    return {}

  def picture(self, index: int) -> Picture:
    return Picture(self.clips[index % 16], None)

  def fingerprint(self) -> str:
    return f"noise {self.n} {self.clips.shape}"


def spent(work: Callable[[], object]) -> tuple[float, float]:
  """(wall, cpu) seconds of a call."""
  wall, cpu = time.perf_counter(), time.process_time()
  work()
  return time.perf_counter() - wall, time.process_time() - cpu


def in_threads(n: int, function: Callable[[int], object], indices: np.ndarray) -> None:
  """A plain loop in each of `n` threads, over its share."""

  def loop(share: list[int]) -> None:
    for index in share:
      function(index)

  with ThreadPoolExecutor(n) as pool:
    list(pool.map(loop, [indices[k::n].tolist() for k in range(n)]))


def bare_save(clip: np.ndarray, quality: int) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(clip[0]).save(buffer, "JPEG", quality=quality)
  return buffer.getvalue()


def bare_open(blob: bytes) -> np.ndarray:
  return np.array(Image.open(io.BytesIO(blob)))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, default in (("n", 4000), ("size", 384), ("quality", 30), ("workers", os.cpu_count()), ("rounds", 5)):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  source, codec = Noise(args.n, args.size), load_codec("jpeg")
  blobs = [bare_save(source.picture(i).clip, args.quality) for i in range(args.n)]
  order = np.random.default_rng(1).permutation(args.n)
  best: dict[str, tuple[float, float]] = {}
  for _ in range(args.rounds):
    with tempfile.TemporaryDirectory() as folder:
      rounds = {
        "write bare": lambda: in_threads(
          args.workers, lambda i: bare_save(source.picture(i).clip, args.quality), order
        ),
        "write": partial(compress, source, codec, args.quality, folder, n_workers=args.workers, progress=False),
        "read bare": lambda: in_threads(args.workers, lambda i: bare_open(blobs[i]), order),
        "read": lambda folder=folder: in_threads(args.workers, CodedSource(source, folder, codec).picture, order),
      }
      for name, work in rounds.items():
        best[name] = tuple(map(min, spent(work), best.get(name, (np.inf, np.inf))))
  bpp = 8 * sum(map(len, blobs)) / (args.n * args.size**2)
  print(f"{'':12}{'wall µs':>10}{'CPU µs':>10}   a picture and core")
  figures = []
  for name in ("write", "read"):
    (wall, cpu), (bare_wall, bare_cpu) = best[name], best[f"{name} bare"]
    for label, w, c in ((f"{name} bare", bare_wall, bare_cpu), (name, wall, cpu)):
      print(f"{label:12}{1e6 * w * args.workers / args.n:10.0f}{1e6 * c / args.n:10.0f}")
    figures.append(Figure(f"{name} / bare, wall", wall / bare_wall, "<=", 1.1))
    figures.append(Figure(f"{name} / bare, CPU", cpu / bare_cpu))
  sizes = {"pictures": args.n, "size": args.size, "quality": args.quality, "workers": args.workers}
  finish("codec_stage", figures, bpp=round(bpp, 2), **sizes)


if __name__ == "__main__":
  main()
