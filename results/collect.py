"""Keeps the rows behind a figure of the README: rows of a workdir as JSONL, and the figure beside them.

    python results/collect.py runs/quickstart results/quickstart

writes results/quickstart.jsonl and results/quickstart.png. Names of machines and folders are left out of the rows; what
the numbers depend on (fingerprints, versions, processor) stays.
"""

import dataclasses
import pathlib
import shutil
import sys

from robust_compress import store
from robust_compress.types import Row


def main(workdir: str, target: str) -> None:
  rows = [_public(row) for row in store.Store(workdir).rows()]
  store.write_rows(f"{target}.jsonl", rows)
  figures = [path for path in sorted(pathlib.Path(workdir, "report").glob("*rate.png")) if "relative" not in path.name]
  if figures:
    shutil.copy(figures[0], f"{target}.png")
  print(f"{target}.jsonl: {len(rows)} rows" + (f"; {target}.png" if figures else ""))


def _public(row: Row) -> Row:
  provenance = {key: value for key, value in row.provenance.items() if key != "command"}
  hardware = {key: value for key, value in provenance.get("hardware", {}).items() if key != "host"}
  return dataclasses.replace(row, provenance={**provenance, "hardware": hardware})


if __name__ == "__main__":
  main(*sys.argv[1:])
