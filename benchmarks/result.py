"""The form of a result: figures with targets, as a small table and as one JSON line; and the table of the README.

    python benchmarks/result.py

writes the last full-size measurement of every figure and processor in results/benchmarks.jsonl into README.md beside
it. A run of some networks of a benchmark thus leaves those of the others standing.
"""

import json
import operator
import pathlib
import re
from typing import Any, NamedTuple

from robust_compress import provenance

HERE = pathlib.Path(__file__).parent
LOG, README = HERE.parent / "results" / "benchmarks.jsonl", HERE / "README.md"
SENSES = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


class Figure(NamedTuple):
  """One number that a benchmark is for. Without `limit` there is nothing to meet."""

  name: str
  value: float
  sense: str = ""  # a key of SENSES
  limit: float | None = None

  @property
  def verdict(self) -> str:
    if self.limit is None:
      return ""
    return "met" if SENSES[self.sense](self.value, self.limit) else "missed"

  @property
  def target(self) -> str:
    return "" if self.limit is None else f"{self.sense} {self.limit:g}"


def finish(benchmark: str, figures: list[Figure], small: bool = False, **details: Any) -> None:
  """Prints figures as a table, then everything, with hardware and versions, as a JSON line.

  Left out is what names a person's machine: its host name, and the paths of the command.
  """
  width = max(len(figure.name) for figure in figures)
  for figure in figures:
    print(f"{figure.name:{width}}  {figure.value:10.4g}  {figure.target:8}  {figure.verdict}")
  source = provenance.provenance(f"benchmarks/{benchmark}.py{' --small' if small else ''}")
  source["hardware"].pop("host")
  fields = [{"name": f.name, "value": round(f.value, 4), "sense": f.sense, "limit": f.limit} for f in figures]
  result = {"benchmark": benchmark, "small": small, "figures": fields, **details, "provenance": source}
  print(json.dumps(result), flush=True)


def table(lines: list[str]) -> str:
  """Markdown of the newest full-size measurement of each figure and processor, those of a benchmark side by side."""
  newest: dict[tuple[str, str], dict[str, str]] = {}  # benchmark and processor -> figure -> its row
  for line in lines:
    found = json.loads(line)
    if found["small"]:
      continue
    hardware = found["provenance"]["hardware"]
    where = f"{hardware['cpu']}, {hardware['n_cpu']} cores, {found['provenance']['time'][:10]}"
    rows = newest.setdefault((found["benchmark"], str(hardware)), {})
    for figure in (Figure(**fields) for fields in found["figures"]):
      cells = (found["benchmark"], figure.name, f"{figure.value:.4g}", figure.target, figure.verdict, where)
      rows[figure.name] = f"| {' | '.join(cells)} |"
  head = ["| benchmark | figure | measured | target | | on |", "|---|---|--:|--:|---|---|"]
  return "\n".join([*head, *(row for rows in newest.values() for row in rows.values())])


def main() -> None:
  """Puts the table between the README's two marks."""
  filled = f"<!-- results -->\n{table(LOG.read_text().splitlines())}\n<!-- end -->"
  README.write_text(re.sub("<!-- results -->.*<!-- end -->", lambda _: filled, README.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
  main()
