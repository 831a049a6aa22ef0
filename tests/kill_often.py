"""Kills a study at random moments, again and again, and compares its rows with those of an uninterrupted run.

    PYTHONPATH=. python tests/kill_often.py [N] [SEED]

`test_study.py` kills at three chosen moments; this is run by hand, for the others. Each of the N studies (10 unless
said) is killed (-9) up to three times, anywhere between its start and the time that a whole run takes, and then left to
finish: a minute or two each. Says which row differs; the exit status is 1 where one does, or where a rerun fails.
"""

from __future__ import annotations

import pathlib
import random
import sys
import tempfile
import time

from test_study import numbers, run_in_process

N_KILLS = 3


def main(n: int = 10, seed: int = 0) -> int:
  rng, n_bad = random.Random(seed), 0
  with tempfile.TemporaryDirectory() as folder:
    whole = pathlib.Path(folder) / "whole"
    start = time.perf_counter()
    run_in_process(whole)
    wall, expected = time.perf_counter() - start, numbers(whole)
    print(f"uninterrupted: {len(expected)} rows in {wall:.0f} s", flush=True)
    for k in range(n):
      workdir = pathlib.Path(folder) / f"killed-{k}"
      moments = [rng.uniform(0, wall) for _ in range(rng.randint(1, N_KILLS))]
      told = _killed(workdir, moments, expected)
      n_bad += told != "the same rows"
      print(f"killed after {', '.join(f'{moment:.1f}' for moment in moments)} s: {told}", flush=True)
  print(f"{n - n_bad} of {n} studies came out the same")
  return int(n_bad > 0)


def _killed(workdir: pathlib.Path, moments: list[float], expected: dict[str, tuple]) -> str:
  """What came of a study that was killed so many seconds after each of its starts."""
  for moment in moments:
    run_in_process(workdir, lambda process, moment=moment: _wait(process, moment))
  try:
    run_in_process(workdir)
  except AssertionError as error:
    return f"the rerun failed: {error}"
  found = numbers(workdir)
  differ = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
  left = [path.name for path in workdir.rglob(".*.tmp")]
  return (
    f"rows differ: {', '.join(differ)}" if differ else f"left behind: {', '.join(left)}" if left else "the same rows"
  )


def _wait(process, moment: float) -> None:
  end = time.perf_counter() + moment
  while process.poll() is None and time.perf_counter() < end:
    time.sleep(0.01)


if __name__ == "__main__":
  sys.exit(main(*map(int, sys.argv[1:3])))
