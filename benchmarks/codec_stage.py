"""The codec stage against a bare loop of Pillow calls, per core.

    python benchmarks/codec_stage.py [--codecs=jpeg,webp,avif,jpeg2000] [--n=4000] [--size=384] [--workers=N]

`write` is `compress` of pictures in memory to shards on disk, with checksums, index and manifest; `read` is
`CodedSource.picture` in random order. The bare loops are `Image.save` to memory, with the codec's own arguments, and
`np.array(Image.open(…))` from memory, of the same pictures in as many threads. Quality is 30, for JPEG 2000 30 dB, and
of codecs other than JPEG a tenth of the pictures is coded. Rounds alternate and the best counts, as other work on the
machine only ever slows one down; CPU seconds of the whole process stand beside. Target: at most 10 % over bare.
`workers` is the rate of two threads over that of one; target: at least 1.8 (not for JPEG 2000, whose encoder in Pillow
holds the interpreter's lock). Ends in a JSON line.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from result import Figure, finish

from robust_compress.codecs import load_codec
from robust_compress.codecs.pillow import PillowCodec
from robust_compress.compress import compress
from robust_compress.data.cache import CodedSource
from robust_compress.types import Picture

LEVEL = 30


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


def bare_save(codec: PillowCodec, clip: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  level = {"quality": LEVEL} if codec.unit == "quality" else {"quality_layers": [float(LEVEL)]}
  Image.fromarray(clip[0]).save(buffer, codec.format, **codec.save, **level)
  return buffer.getvalue()


def bare_open(blob: bytes) -> np.ndarray:
  return np.array(Image.open(io.BytesIO(blob)))


def measure(name: str, n: int, size: int, workers: int, rounds: int) -> list[Figure]:
  """Measures one codec and prints its seconds."""
  source, codec = Noise(n, size), load_codec(name)
  blobs = [bare_save(codec, source.picture(i).clip) for i in range(n)]
  order = np.random.default_rng(1).permutation(n)
  code = partial(compress, source, codec, LEVEL, progress=False)
  best: dict[str, tuple[float, float]] = {}
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as alone:
      ways = {
        "write bare": lambda: in_threads(workers, lambda i: bare_save(codec, source.picture(i).clip), order),
        "write": lambda folder=folder: code(folder, n_workers=workers),
        "write alone": lambda alone=alone: code(alone, n_workers=1),
        "read bare": lambda: in_threads(workers, lambda i: bare_open(blobs[i]), order),
        "read": lambda folder=folder: in_threads(workers, CodedSource(source, folder, codec).picture, order),
      }
      for way, work in ways.items():
        best[way] = tuple(map(min, spent(work), best.get(way, (np.inf, np.inf))))
  for way, (wall, cpu) in best.items():
    print(f"{name:9} {way:12}{1e6 * wall * (1 if 'alone' in way else workers) / n:10.0f}{1e6 * cpu / n:10.0f}")
  figures = []
  for way in ("write", "read"):
    wall, cpu = (ours / bare for ours, bare in zip(best[way], best[f"{way} bare"]))
    figures += [Figure(f"{name}: {way} / bare, wall", wall, "<=", 1.1), Figure(f"{name}: {way} / bare, CPU", cpu)]
  gain = best["write alone"][0] / best["write"][0]
  return [*figures, Figure(f"{name}: {workers} workers / one", gain, *((">=", 1.8) if name != "jpeg2000" else ()))]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--codecs", default="jpeg,webp,avif,jpeg2000")
  for name, default in (("n", 4000), ("size", 384), ("workers", 2), ("rounds", 4)):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  print(f"{'':22}{'wall µs':>10}{'CPU µs':>10}   a picture and core")
  figures = []
  for name in args.codecs.split(","):
    figures += measure(name, args.n if name == "jpeg" else args.n // 10, args.size, args.workers, args.rounds)
  finish("codec_stage", figures, pictures=args.n, size=args.size, level=LEVEL, workers=args.workers)


if __name__ == "__main__":
  main()
