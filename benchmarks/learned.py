"""Learned codecs against CompressAI's compress and decompress, on the same random weights, at published widths.

    python benchmarks/learned.py [--small] [--compressai=PYTHON] [--networks=a,b] [--quality=4] [--batch=8] [--rounds=3]

Of a picture of 768×512, for every network:
- `CompressAI / ours`: seconds of encode and decode together. Target: at least 10 where the prior is autoregressive,
  else at least 1. `autoregressive stage`: of what passes there on both sides, entropy coding included. Target: at
  least 50. CompressAI works in a process of its own (`compressai_coding.py`), in the environment of that PYTHON, with
  one thread and with one a core; the better counts, as two may well be slower on its many small steps.
- `entropy coding / encode`: symbols to strings, with the tables' rows or the mixtures' masses. Target: at most 0.15.
- pictures a second, one by one, and `--batch` at once over that. Target: at least 1.
- in the last line: milliseconds by part, of a batch a picture, and bytes.

One way after the other, round by round, after a round that compiles; figures are medians over the rounds of ratios
within a round. Weights are narrow in a --small run.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import learned_weights
import networks
import numpy as np
from peer import Peer
from result import Figure, finish
from video_codecs import clip_of, seconds

from robust_compress import provenance
from robust_compress.codecs import load_codec
from robust_compress.codecs.learned import coder, container, mixture, programs, tables, wavefront
from robust_compress.codecs.learned.networks import NETWORKS, load_network

SIZE, SMALL_SIZE = (512, 768), (128, 192)
STAGE, CODING = "autoregressive stage", "entropy coding"
PARTS = {  # of Programs
  "analysis": "analysis",
  "hyper_analysis": "hyper",
  "features": "hyper",
  "prior": "hyper",
  "synthesis": "synthesis",
  "foretell": f"{STAGE}: networks",
}


class Watch:
  """Seconds spent inside functions, by part. Calls within a call of the same part count once."""

  def __init__(self) -> None:
    self.spent: Counter[str] = Counter()
    self._open: set[str] = set()

  def on(self, owner: Any, name: str, part: str) -> None:
    inner = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
      if part in self._open:
        return inner(*arguments, **options)
      self._open.add(part)
      start = time.perf_counter()
      try:
        return inner(*arguments, **options)
      finally:
        self.spent[part] += time.perf_counter() - start
        self._open.discard(part)  # where pictures are coded at once, nobody asks

    setattr(owner, name, timed)

  def of(self, work: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, 'all' and by part."""
    self.spent.clear()
    return {"all": seconds(work), **self.spent}


class CompressAI(Peer):
  """The process that runs CompressAI's network."""

  def __init__(self, python: str, *arguments: object):
    super().__init__("--compressai", python, "compressai_coding.py", *arguments)

  def __call__(self) -> dict[str, float]:
    """Seconds of one coding, with the better number of threads; 'default': of all with one a core."""
    ways = [self.ask(n_threads) for n_threads in (1, provenance.n_cores())]
    whole = [way["encode"] + way["decode"] for way in ways]
    return {**ways[int(np.argmin(whole))], "default": whole[-1]}


def watch_coding() -> Watch:
  """Of what all networks code with."""
  watch = Watch()
  watch.on(wavefront, "walk", STAGE)
  for owner, names in ((coder.Encoder, ("put", "string")), (coder.Decoder, ("get",)), (mixture, ("put", "get"))):
    for name in names:
      watch.on(owner, name, CODING)
  for owner, name in ((tables, "gaussian_indexes"), (mixture, "Mixture"), (coder, "to_symbols")):
    watch.on(owner, name, CODING)
  return watch


def measure(
  name: str, width: dict[str, int], clips: list[np.ndarray], args: argparse.Namespace, watch: Watch
) -> dict[str, Any]:
  """What `rounds_of` gives, and the 'versions' of the other side."""
  network, theirs = load_network(name).build(**width), None
  with tempfile.TemporaryDirectory() as temporary:
    file, picture = pathlib.Path(temporary) / "weights.npz", pathlib.Path(temporary) / "picture.npy"
    learned_weights.write(name, network, file)
    np.save(picture, clips[0][0])
    if args.compressai and load_network(name).files:
      theirs = CompressAI(args.compressai, name, network.n, network.m, file, picture)
    for attribute, part in PARTS.items():
      watch.on(programs.of_file(name, file, file.stat().st_mtime_ns), attribute, part)
    found = rounds_of(load_codec(name, weights=str(file)), theirs, clips, args.rounds, watch)
  if theirs:
    theirs.close()
  return {**found, "versions": theirs.versions if theirs else {}}


def rounds_of(
  codec: Any, theirs: CompressAI | None, clips: list[np.ndarray], rounds: int, watch: Watch
) -> dict[str, Any]:
  """Of each round, by way: seconds by part; of 'batch', seconds a picture."""
  level, found = codec.levels[0], {"encode": [], "decode": [], "batch": [], "theirs": []}
  blobs = [coded.blob for coded in codec.encode(clips, [level] * len(clips))]  # compiles, as do the first decodings
  codec.decode(blobs)
  if theirs:
    theirs()
  for _ in range(rounds):
    found["encode"].append(watch.of(lambda: codec.encode(clips[:1], [level])))
    found["decode"].append(watch.of(lambda: codec.decode(blobs[:1])))
    if theirs:
      found["theirs"].append(theirs())
    encode, decode = seconds(lambda: codec.encode(clips, [level] * len(clips))), seconds(lambda: codec.decode(blobs))
    found["batch"].append({"encode": encode / len(clips), "decode": decode / len(clips)})
  n_bytes = sum(len(string) for string in container.read(blobs[0]).strings)
  return {**found, "bytes": {"ours": n_bytes, **({"theirs": found["theirs"][0]["bytes"]} if theirs else {})}}


def figures(name: str, found: dict[str, Any], batch: int) -> list[Figure]:
  encode, decode, theirs = (found[way] for way in ("encode", "decode", "theirs"))
  is_autoregressive, made = STAGE in encode[0], []

  def median(ratio: Callable[..., float], *ways: list) -> float:
    return statistics.median(ratio(*each) for each in zip(*ways, strict=True))

  if theirs:
    whole = median(lambda t, e, d: (t["encode"] + t["decode"]) / (e["all"] + d["all"]), theirs, encode, decode)
    made.append(Figure(f"{name}: CompressAI / ours", whole, ">=", 10 if is_autoregressive else 1))
    default = median(lambda t, e, d: t["default"] / (e["all"] + d["all"]), theirs, encode, decode)
    made.append(Figure(f"{name}: CompressAI of {provenance.n_cores()} threads / ours", default))
  if theirs and is_autoregressive:
    stage = median(lambda t, e, d: t["stages"] / (e[STAGE] + d[STAGE]), theirs, encode, decode)
    made.append(Figure(f"{name}: {STAGE}, CompressAI / ours", stage, ">=", 50))
  made.append(Figure(f"{name}: {CODING} / encode", median(lambda e: e[CODING] / e["all"], encode), "<=", 0.15))
  for way in ("encode", "decode"):
    ratio = median(lambda one, many, way=way: one["all"] / many[way], found[way], found["batch"])
    made.append(Figure(f"{name}: {way}, pictures/s", median(lambda one: 1 / one["all"], found[way])))
    made.append(Figure(f"{name}: {way}, pictures/s, {batch} at once / one", ratio, ">=", 1))
  return made


def milliseconds(rounds: list[dict[str, float]]) -> dict[str, float]:
  """Medians, by part."""
  parts = sorted(rounds[0].keys() - {"bytes", "threads"})
  return {part: round(1000 * statistics.median(each[part] for each in rounds), 1) for part in parts}


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: one round of narrow networks")
  parser.add_argument("--compressai", help="Python with torch and compressai; default: measures ours alone")
  parser.add_argument("--networks", default=",".join(NETWORKS))
  for name, default in (("quality", 4), ("batch", 8), ("rounds", 3)):
    parser.add_argument(f"--{name}", type=int, default=default)
  args = parser.parse_args()
  if args.small:
    args.batch, args.rounds = 2, 1
  return args


def main() -> None:
  args, watch = arguments(), watch_coding()
  height, width = SMALL_SIZE if args.small else SIZE
  clips = [clip_of(width, 1, seed)[:, :height] for seed in range(args.batch)]
  made, details, versions = [], {}, {}
  for name in args.networks.split(","):
    n, m = (12, 12) if args.small else load_network(name).widths[args.quality - 1]
    found = measure(name, {"n": n, "m": m}, clips, args, watch)
    made += figures(name, found, args.batch)
    versions |= found["versions"]
    parts = {way: milliseconds(found[way]) for way in ("encode", "decode", "batch", "theirs") if found[way]}
    details[name] = {"milliseconds": parts, "bytes": found["bytes"]}
    details[name] |= {"their_threads": [each["threads"] for each in found["theirs"]]}
    print(f"{name} {json.dumps(details[name])}", file=sys.stderr, flush=True)
  sizes = {"size": [height, width], "quality": args.quality, "batch": args.batch, "rounds": args.rounds}
  finish("learned", made, args.small, **sizes, networks=details, device=networks.device(), peer=versions)


if __name__ == "__main__":
  main()
