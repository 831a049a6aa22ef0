"""Video codecs in process against an ffmpeg process a clip, against a bare loop over PyAV, and on two workers.

    python benchmarks/video_codecs.py [--small] [--clips=12] [--rounds=5]

Clips are eight frames of 512x512, coded and decoded by every codec of the table at a middle level.

- `ffmpeg / ours`: seconds of two ffmpeg processes a clip, PNG files to a file and that file to raw pictures in a pipe,
  over those of `encode` and `decode` of the same clip from memory; one thread both, H.264 as Reich et al. 2024 have it.
  Target: at least 3.5.
- `ours / bare`: a loop of PyAV calls with the same settings, from arrays to packets and from packets to arrays.
  Target: at most 1.1, that is within 10 %.
- `two workers / one`: clips a second of two threads over one. Target: at least 1.8, where two cores are free; what two
  processes give, which share nothing, stands beside.

Ways are measured in turn and the best of the rounds counts, as other work on the machine only ever slows one down.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import av
import numpy as np
from PIL import Image
from result import Figure, finish

from robust_compress import allocator
from robust_compress.codecs import load_codec

allocator.keep_freed_memory()  # as the project's commands have it; a fifth of x264's time, bare or not

POINTS = {"h264": 30, "h264(mode=crf)": 30, "hevc": 30, "av1": 35, "vp9": 35}
REICH = "-preset medium -g 8 -qp 30 -flags +cgop+mv4 -mbtree 0 -aq-mode 0 -b_strategy 0 -psy 0"


def clip_of(size: int, n_frames: int = 8, seed: int = 0) -> np.ndarray:
  """uint8[t h w 3]: a window that moves over a picture with the spectrum of photographs, and a little camera noise."""
  rng, side = np.random.default_rng(seed), size + 4 * n_frames
  frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
  frequency[0, 0] = 1
  planes = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(4, side, side))) / frequency**1.2, (side, side))
  planes /= planes.std(axis=(1, 2), keepdims=True)
  picture = np.moveaxis(128 + 45 * planes[:1] + 12 * planes[1:], 0, -1)
  frames = [picture[3 * t : 3 * t + size, 2 * t : 2 * t + size] for t in range(n_frames)]
  return (frames + rng.normal(0, 1, (n_frames, size, size, 1))).clip(0, 255).astype(np.uint8)


def seconds(work: Callable[[], object]) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


def best_of(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
  """Seconds of each way, at its best."""
  times = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds)]
  return {name: min(each[name] for each in times) for name in ways}


def with_ffmpeg(folder: pathlib.Path, clip: np.ndarray) -> None:
  """Two processes: PNG files to a file, and that file to raw pictures."""
  quiet = ("ffmpeg", "-y", "-v", "error")
  encode = (*quiet, "-i", folder / "%d.png", "-c:v", "libx264", "-threads", "1", *REICH.split(), folder / "clip.mp4")
  subprocess.run(encode, check=True)
  decode = (*quiet, "-threads", "1", "-i", folder / "clip.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
  raw = subprocess.run(decode, check=True, capture_output=True).stdout
  assert len(raw) == clip.size


def bare_encode(codec, level: float, clip: np.ndarray) -> list[av.Packet]:
  context = codec.open_encoder(*clip.shape[1:3], level)
  packets = []
  for index, pixels in enumerate(clip):
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=context.pix_fmt, threads=1)
    frame.pts = index
    packets += context.encode(frame)
  return packets + context.encode(None)


def bare_decode(codec, packets: list[av.Packet]) -> np.ndarray:
  context = av.CodecContext.create(codec.decoder, "r")
  context.thread_count = 1
  frames = [frame for packet in [*packets, None] for frame in context.decode(packet)]
  return np.stack([frame.to_ndarray(format="rgb24", threads=1) for frame in frames])


def against_bare(name: str, clip: np.ndarray, rounds: int) -> dict[str, float]:
  """Seconds a clip to encode and to decode, ours and bare."""
  codec, level = load_codec(name), POINTS[name]
  [coded], packets = codec.encode([clip], [level]), bare_encode(codec, level, clip)
  return best_of(
    rounds,
    {
      "encode": lambda: codec.encode([clip], [level]),
      "encode bare": lambda: bare_encode(codec, level, clip),
      "decode": lambda: codec.decode([coded.blob]),
      "decode bare": lambda: bare_decode(codec, packets),
    },
  )


def there_and_back(name: str, clip: np.ndarray) -> None:
  codec = load_codec(name)
  codec.decode([coded.blob for coded in codec.encode([clip], [POINTS[name]])])


def in_pool(pool: Executor, name: str, clip: np.ndarray, n: int) -> None:
  list(pool.map(there_and_back, [name] * n, [clip] * n))


def scaling(name: str, clip: np.ndarray, n: int, rounds: int) -> tuple[float, float]:
  """Throughput of two workers over that of one: threads, processes."""
  spawn = get_context("spawn")
  with (
    ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two,
    ProcessPoolExecutor(1, spawn) as one_process, ProcessPoolExecutor(2, spawn) as two_processes,
  ):  # fmt: skip
    pools = {"one": one, "two": two, "one process": one_process, "two processes": two_processes}
    for pool in (one_process, two_processes):
      in_pool(pool, name, clip, 4)  # started and warm
    ways = {key: lambda pool=pool: in_pool(pool, name, clip, n) for key, pool in pools.items()}
    best = best_of(rounds, ways)
  return best["one"] / best["two"], best["one process"] / best["two processes"]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test")
  parser.add_argument("--clips", type=int, default=12, help="a worker count's, in the test of scaling")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  size, n, rounds = (64, 4, 1) if args.small else (512, args.clips, args.rounds)
  clip, figures = clip_of(size), []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for index, pixels in enumerate(clip):
      Image.fromarray(pixels).save(folder / f"{index}.png")
    if shutil.which("ffmpeg"):
      ways = {"ffmpeg": lambda: with_ffmpeg(folder, clip), "ours": lambda: there_and_back("h264", clip)}
      best = best_of(2 * rounds, ways)
      figures.append(Figure("h264, ffmpeg / ours", best["ffmpeg"] / best["ours"], ">=", 3.5))
  print(f"{'ms a clip':18}{'encode':>10}{'bare':>10}{'decode':>10}{'bare':>10}")
  for point in POINTS:
    best = against_bare(point, clip, 2 * rounds)
    print(f"{point:18}" + "".join(f"{1e3 * wall:10.1f}" for wall in best.values()))
    figures += [
      Figure(f"{point}, {way}, ours / bare", best[way] / best[f"{way} bare"], "<=", 1.1) for way in ("encode", "decode")
    ]
  for point in POINTS:
    threads, processes = scaling(point, clip, n, rounds)
    free = (os.cpu_count() or 1) > 1
    figures.append(Figure(f"{point}, two workers / one", threads, *((">=", 1.8) if free else ())))
    figures.append(Figure(f"{point}, two processes / one", processes))
  finish("video_codecs", figures, args.small, size=size, frames=len(clip), clips=n)


if __name__ == "__main__":
  main()
