"""How often `audit` sees that a picture was JPEG before, and how often it sees what is not there.

    python benchmarks/recompression.py --pictures=FOLDER [--shrink=0.61] [--n=N]

Every picture is first made smaller, by a factor that breaks the block grid, so that nothing of its own file shows. Then
it is compressed once, twice at random qualities five or more apart, and once to become a bitmap; each is looked at as
`audit` looks at a file. Rates go into the docstring of `inspect/recompression.py`. Ends in a JSON line.
"""

import argparse
import io

import numpy as np
from PIL import Image
from result import Figure, finish

from robust_compress.inspect import jpeg_header, recompression
from robust_compress.inspect.audit import luma_of
from robust_compress.inspect.pictures import open_pictures

LUMA = np.array([0.299, 0.587, 0.114])


def jpeg(frame: np.ndarray, quality: int) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
  return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(data)))


def of_file(data: bytes) -> recompression.Trace | None:
  return recompression.trace(luma_of(data, "picture"), jpeg_header.parse(data).table_of(0))


def looked_at(frame: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[int, recompression.Trace | None]]:
  """{what was done: (the earlier quality, what is seen)}; the quality is 0 where there was none."""
  first, second = 0, 0
  while abs(first - second) < 5:
    first, second = int(rng.integers(40, 92)), int(rng.integers(60, 99))
  order = "lower quality first" if first < second else "higher quality first"
  return {
    "once": (0, of_file(jpeg(frame, int(rng.integers(45, 101))))),
    order: (first, of_file(jpeg(decoded(jpeg(frame, first)), second))),
    "bitmap, once JPEG": (first, recompression.trace(decoded(jpeg(frame, first)) @ LUMA)),
    "bitmap, never": (0, recompression.trace(frame @ LUMA)),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--pictures", required=True)
  parser.add_argument("--shrink", type=float, default=0.61)
  parser.add_argument("--n", type=int, default=None)
  args = parser.parse_args()
  source, rng = open_pictures(args.pictures), np.random.default_rng(0)
  seen: dict[str, list[tuple[int, int | None]]] = {}
  for index in range(len(source))[: args.n]:
    picture = Image.fromarray(source.picture(index).clip[0])
    size = (round(picture.width * args.shrink), round(picture.height * args.shrink))
    for what, (quality, trace) in looked_at(np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), rng).items():
      if trace is not None:
        seen.setdefault(what, []).append((quality, trace.quality))
  figures = []
  for what, pairs in seen.items():
    right = [found is not None and abs(found - quality) <= 2 for quality, found in pairs if quality]
    figures.append(Figure(f"{what}: {len(pairs)} pictures, share told", np.mean([f is not None for _, f in pairs])))
    figures += [Figure(f"{what}: quality within 2", np.mean(right))] if right else []
  finish("recompression", figures)


if __name__ == "__main__":
  main()
