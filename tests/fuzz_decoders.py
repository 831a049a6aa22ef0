"""Feeds mutated streams to every decoder, and counts what comes of them.

    own streams ──mutated(codec, k)──▶ damaged stream ──worker──▶ picture │ CodecError │ crash, time-out, memory, bug

    PYTHONPATH=. python tests/fuzz_decoders.py --n=1000000 [--codecs=jpeg,h264] [--seed=0] [--state=fuzz.json]

`test_fuzz.py` runs thousands; this is run by hand, for a million: about an hour and a half on one core. What is done
is written to the state file every few seconds, and the same command goes on from there. Stream k of a codec depends on
the seed, the codec and k alone: `--show=h264:1234` writes it to a file. A *picture* has the size that its stream
declares (decoders check that); a *bug* is an exception other than CodecError. Crashes, time-outs and memory limits hit
the worker alone (see `robust_compress/foreign.py`). The exit status is 1 where there was a bug.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import pathlib
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from robust_compress import files
from robust_compress.codecs import load_codec, varint, video_stream
from robust_compress.codecs.learned import container
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.foreign import ForeignDecoder, WorkerError, limits
from robust_compress.types import CodecError
from tests.fakes import installed_codecs, photo, spec

OUTCOMES = ("picture", "CodecError", "crash", "time-out", "memory", "bug")
SIZES = ((37, 53, 1), (24, 40, 3), (16, 16, 1))  # h, w, t
SAVE_S = 5


@functools.cache
def streams(codec: str) -> tuple[bytes, ...]:
  """Undamaged streams of this project's own making: several sizes and numbers of frames, low and high rate."""
  coder = load_codec(spec(codec))
  clips = [photo(height, width, seed, n_frames) for seed, (height, width, n_frames) in enumerate(SIZES)]
  ends = coder.levels[0], coder.levels[-1]
  return tuple(coder.encode([clip], [level])[0].blob for clip in clips for level in ends)


# --------------------------------------------------------------------------------------------- mutations


def mutated(codec: str, k: int, seed: int = 0) -> bytes:
  """Damaged stream k of a codec: one to three mutations of one of its streams."""
  rng = np.random.default_rng([seed, zlib.crc32(codec.encode()), k])
  blob = bytearray(_one(rng, streams(codec)))
  for _ in range(rng.integers(1, 4)):
    blob = _one(rng, MUTATIONS)(rng, blob, codec) or bytearray(1)
  return sealed(codec, bytes(blob)) if rng.random() < 0.9 else bytes(blob)


def sealed(codec: str, blob: bytes) -> bytes:
  """A blob of a format of our own, under the checksum that belongs to it, so that its damage reaches the decoder."""
  try:
    if codec in NETWORKS:
      return _sealed_network(blob)
    if codec not in video_stream.TAGS:
      return blob
    _, end = video_stream._read_header(blob, codec)
  except (CodecError, IndexError):
    return blob
  start, stream = blob[:end], blob[end + video_stream._CHECKSUM_BYTES :]
  return start + video_stream._checksum(start, stream) + stream


def _sealed_network(blob: bytes) -> bytes:
  """The checksum over its symbols stays as it was: damage of a string is told by that alone."""
  at = 6
  for _ in range(2):
    _, at = varint.read("", blob, at)
  at += 2
  for _ in range(blob[1] >> 1 & 3):
    _, at = varint.read("", blob, at)
  return blob[:at] + container._damage(blob[:at], blob[at + 1 :]) + blob[at + 1 :]


def _one(rng: np.random.Generator, choices):
  return choices[rng.integers(len(choices))]


def _span(rng: np.random.Generator, blob: bytearray) -> slice:
  """A part of a stream: short ones are as likely as long ones."""
  start = int(rng.integers(len(blob)))
  return slice(start, start + int(np.ceil((len(blob) - start) ** rng.uniform())))


def _flip_bits(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  for position in rng.integers(8 * len(blob), size=rng.integers(1, 17)):
    blob[position // 8] ^= 1 << position % 8
  return blob


def _flip_header(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  """Bits of the first bytes, where sizes and tables are."""
  for position in rng.integers(8 * min(len(blob), 64), size=rng.integers(1, 5)):
    blob[position // 8] ^= 1 << position % 8
  return blob


def _truncate(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  return blob[: rng.integers(len(blob))]


def _cut_out(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  del blob[_span(rng, blob)]
  return blob


def _repeat(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  part = _span(rng, blob)
  blob[part] = blob[part] * int(rng.integers(2, 5))
  return blob


def _randomise(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  part = _span(rng, blob)
  blob[part] = rng.bytes(len(blob[part]))
  return blob


def _splice(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  """The start of one stream, the rest of another."""
  other = _one(rng, streams(codec))
  return blob[: rng.integers(len(blob) + 1)] + other[rng.integers(len(other)) :]


def _declare(rng: np.random.Generator, blob: bytearray, codec: str) -> bytearray:
  """Huge numbers where a height, a width or a number of frames stands; else where any number might."""
  size, order = int(rng.choice([1, 2, 4])), _one(rng, ["big", "little"])
  number = int(_one(rng, [value for row in SIZES for value in row]))
  start = blob.find(number.to_bytes(size, order), int(rng.integers(len(blob))))
  start = start if start >= 0 else int(rng.integers(min(len(blob), 64)))
  huge = _one(rng, [2 ** (8 * size) - 1, 2 ** (8 * size - 1) - 1, 2 ** (4 * size), number * 100 % 2 ** (8 * size)])
  blob[start : start + size] = huge.to_bytes(size, order)
  return blob


MUTATIONS = (_flip_bits, _flip_header, _truncate, _cut_out, _repeat, _randomise, _splice, _declare)


# ----------------------------------------------------------------------------------------------- running


def outcome(decoder: ForeignDecoder, codec: str, blob: bytes) -> tuple[str, str]:
  """(one of OUTCOMES, what the error says) of one stream."""
  try:
    decoder.decode(spec(codec), blob)
  except WorkerError as error:
    return error.reason, str(error)
  except CodecError as error:
    return "CodecError", str(error)
  return "picture", ""


def run(decoder: ForeignDecoder, codec: str, n: int, seed: int, counts: dict) -> None:
  """Streams counts['done'] … n-1 of a codec. `counts` says at any time what came of those that are done."""
  for k in range(counts.get("done", 0), n):
    start = time.perf_counter()
    what, message = outcome(decoder, codec, mutated(codec, k, seed))
    counts[what] = counts.get(what, 0) + 1
    counts["peak_bytes"] = max(counts.get("peak_bytes", 0), decoder.peak_bytes)
    counts["slowest_s"] = max(counts.get("slowest_s", 0), round(time.perf_counter() - start, 3))
    if what not in ("picture", "CodecError") and len(counts.setdefault("shown", [])) < 20:
      counts["shown"].append([k, message])
    counts["done"] = k + 1


def table(state: dict[str, dict]) -> str:
  head = (
    f"{'codec':12}{'streams':>9}" + "".join(f"{name:>12}" for name in OUTCOMES) + f"{'slowest':>10}{'peak MiB':>10}"
  )
  lines = [head]
  total = collections.Counter()
  for codec, counts in state.items():
    lines.append(_line(codec, counts))
    total.update({key: counts.get(key, 0) for key in ("done", *OUTCOMES)})
  whole = {
    key: max((counts.get(key, 0) for counts in state.values()), default=0) for key in ("slowest_s", "peak_bytes")
  }
  return "\n".join([*lines, _line("all", {**total, **whole})])


def _line(codec: str, counts: dict) -> str:
  numbers = "".join(f"{counts.get(name, 0):12}" for name in OUTCOMES)
  peak = counts.get("peak_bytes", 0) >> 20
  return f"{codec:12}{counts.get('done', 0):9}{numbers}{counts.get('slowest_s', 0):9.2f}s{peak:10}"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--n", type=int, default=1_000_000, help="streams in all")
  parser.add_argument("--codecs", default=",".join(installed_codecs()), help="shared evenly among these")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--state", type=pathlib.Path, default="fuzz.json", help="what is done, to go on from")
  parser.add_argument("--workers", type=int, default=1, help="codecs at a time, each with a process")
  parser.add_argument("--timeout", type=float, default=20, help="seconds a stream")
  parser.add_argument("--memory", type=float, default=2, help="GiB a worker")
  parser.add_argument("--show", metavar="CODEC:K", help="write that stream to CODEC-K.bin, decode it, and end")
  args = parser.parse_args()
  if args.show:
    return show(args)
  names = args.codecs.split(",")
  found = json.loads(args.state.read_text()) if args.state.exists() else {"seed": args.seed, "codecs": {}}
  if found["seed"] != args.seed:
    sys.exit(f"{args.state} was made with --seed={found['seed']}; use another --state")
  state = {**{name: {} for name in names}, **found["codecs"]}
  with ThreadPoolExecutor(args.workers) as pool:
    jobs = [pool.submit(_all_of, name, -(-args.n // len(names)), args, state[name]) for name in names]
    while not all(job.done() for job in jobs):
      time.sleep(min(SAVE_S, 0.2 if args.n < 1000 else SAVE_S))
      _save(args, state)
      print(f"\r{sum(counts.get('done', 0) for counts in state.values())} streams", end="", file=sys.stderr)
    _save(args, state)
  print(file=sys.stderr)
  print(table(state))
  for name, counts in state.items():
    for k, message in counts.get("shown", []):
      print(f"{name}:{k}: {message}")
  for job in jobs:
    job.result()
  return int(any(counts.get("bug") for counts in state.values()))


def _all_of(name: str, n: int, args: argparse.Namespace, counts: dict) -> None:
  with worker(name, args) as decoder:
    run(decoder, name, n, args.seed, counts)


def worker(codec: str, args: argparse.Namespace) -> ForeignDecoder:
  """Under the limits of the command line, or the codec's own."""
  return ForeignDecoder(**{"timeout_s": args.timeout, "memory_bytes": int(args.memory * 2**30), **limits(codec)})


def _save(args: argparse.Namespace, state: dict[str, dict]) -> None:
  copy = {"seed": args.seed, "codecs": {name: dict(counts) for name, counts in state.items()}}
  files.write_atomic(args.state, json.dumps(copy, indent=1).encode())


def show(args: argparse.Namespace) -> int:
  codec, _, k = args.show.rpartition(":")
  blob = mutated(codec, int(k), args.seed)
  pathlib.Path(f"{codec}-{k}.bin").write_bytes(blob)
  with worker(codec, args) as decoder:
    print(f"{codec}-{k}.bin, {len(blob)} bytes:", *outcome(decoder, codec, blob))
  return 0


if __name__ == "__main__":
  sys.exit(main())
