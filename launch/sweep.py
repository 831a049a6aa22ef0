"""Every point of a config's own sweep, as processes on this machine:

    python launch/sweep.py --config=FILE[:arg] --directory=DIR [--jobs=2] [--gpus=0,1,2,3] [--config.key=value …]

The config file has, beside `get_config`, a plain generator of overrides:

    def sweep():
      for rate in (1e-4, 3e-4, 1e-3):
        yield {"recipe.learning_rate": rate}

Each becomes `robust-compress run` in DIR/recipe.learning_rate=0.0001 and so on, with what it prints in output.txt.
`--jobs` run at a time; with `--gpus` one runs on each GPU named. All points are checked before the first starts. The
same command goes on after an interruption: what is on disk is not done twice, so finished points take seconds. Ctrl-C
stops all of them. The exit status is 0 where every point ended well.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from robust_compress import settings
from robust_compress.types import RobustCompressError, SpecError

PATIENCE_S = 20  # for a process that was asked to stop
NAME_LENGTH = 100


class Job(NamedTuple):
  name: str
  command: list[str]
  directory: pathlib.Path


class Running(NamedTuple):
  job: Job
  process: subprocess.Popen
  slot: str  # a GPU's number, or any name
  started: float


def main(argv: list[str] | None = None) -> int:
  parser = _parser()
  args, overrides = parser.parse_known_args(argv)
  if args.jobs < 1:
    parser.error(f"--jobs={args.jobs}: expected at least 1")
  for number in (signal.SIGTERM, signal.SIGINT):  # stop as by Ctrl-C, which scripts ignore for what they start with '&'
    signal.signal(number, signal.default_int_handler)
  try:
    jobs = plan(args.config, args.directory, overrides)
    slots = args.gpus.split(",") if args.gpus else [f"job {index}" for index in range(args.jobs)]
    failed = run(jobs, slots, on_gpus=bool(args.gpus))
  except RobustCompressError as error:
    print(f"sweep: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("stopped; the same command goes on from here", file=sys.stderr)
    return 130
  return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="launch/sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", required=True, metavar="FILE[:arg]", help="a config file with sweep()")
  parser.add_argument("--directory", required=True, type=pathlib.Path, metavar="DIR", help="of the points' workdirs")
  parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default: 1)")
  parser.add_argument("--gpus", default="", metavar="0,1,…", help="one process at a time on each of these, not --jobs")
  return parser


# ------------------------------------------------------------------------------------------------- the plan


def plan(config: str, directory: pathlib.Path, overrides: list[str]) -> list[Job]:
  """The sweep's points as commands. Raises SpecError for a file without sweep(), and for what no config would take."""
  settings.load_config(config, overrides)
  sweep = runpy.run_path(config.partition(":")[0]).get("sweep")
  if sweep is None:
    raise SpecError(f"config {config} has no sweep(); expected a generator of overrides such as {{'recipe.steps': 10}}")
  jobs = {}
  for point in sweep():
    name = name_of(point)
    if name in jobs:
      raise SpecError(f"config {config}: sweep() yields {name} twice")
    flags = [*overrides, *(f"--config.{key}={value}" for key, value in point.items())]
    settings.load_config(config, flags)
    command = [sys.executable, "-m", "robust_compress", "run", f"--config={config}", f"--workdir={directory / name}"]
    jobs[name] = Job(name, command + flags, directory / name)
  return list(jobs.values())


def name_of(point: Mapping[str, Any]) -> str:
  """'recipe.learning_rate=0.1,seeds=0-1': a folder's name; what a name cannot hold is told apart by a hash."""
  text = ",".join(f"{key}={value}" for key, value in point.items()) or "as_is"
  name = re.sub(r"[^A-Za-z0-9_.,=+@-]+", "-", text)
  if name == text and len(name) <= NAME_LENGTH:
    return name
  return f"{name[:NAME_LENGTH].strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# -------------------------------------------------------------------------------------------------- the work


def run(jobs: list[Job], slots: list[str], on_gpus: bool = False) -> list[Job]:
  """Runs all, one at a time in each slot; returns those that failed. Nothing it started outlives it."""
  waiting, free = iter(jobs), list(slots)
  running: list[Running] = []
  ended: list[Running] = []
  print(f"{len(jobs)} points, {min(len(slots), len(jobs))} at a time", flush=True)
  try:
    while len(ended) < len(jobs):
      for slot, job in _paired(free, waiting):
        running.append(_start(job, slot, on_gpus))
      for one in [one for one in running if one.process.poll() is not None]:
        running.remove(one)
        ended.append(one)
        free.append(one.slot)
        print(f"  {_outcome(one)} ({len(ended)} of {len(jobs)})", flush=True)
      time.sleep(0.1)
  finally:
    _stop(running)
  return [one.job for one in ended if one.process.returncode]


def _paired(free: list[str], waiting: Iterator[Job]) -> Iterator[tuple[str, Job]]:
  """Takes a slot and a job together while there are both."""
  while free and (job := next(waiting, None)) is not None:
    yield free.pop(0), job


def _start(job: Job, slot: str, on_gpus: bool) -> Running:
  """A session of its own: the terminal's Ctrl-C comes to us alone, and we pass it on once."""
  job.directory.mkdir(parents=True, exist_ok=True)
  environment = {**os.environ, "CUDA_VISIBLE_DEVICES": slot} if on_gpus else None
  with open(job.directory / "output.txt", "ab") as output:
    process = subprocess.Popen(
      job.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
    )
  print(f"  start  {job.name}" + (f" on GPU {slot}" if on_gpus else ""), flush=True)
  return Running(job, process, slot, time.monotonic())


def _outcome(ended: Running) -> str:
  took, status = f"{time.monotonic() - ended.started:.0f} s", ended.process.returncode
  if status == 0:
    return f"done   {ended.job.name} in {took}"
  output = ended.job.directory / "output.txt"
  last = output.read_text(errors="replace").strip().rpartition("\n")[2]
  return f"FAILED {ended.job.name} after {took}, status {status}: {last} (all of it: {output})"


def _stop(running: list[Running]) -> None:
  """Asks, waits, then ends."""
  for one in running:
    one.process.send_signal(signal.SIGINT)
  until = time.monotonic() + PATIENCE_S
  for one in running:
    try:
      one.process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
      one.process.kill()
      one.process.wait()


if __name__ == "__main__":
  sys.exit(main())
