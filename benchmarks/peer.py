"""The other side of a comparison: a script in another environment's Python, in a process of its own.

It says its versions in a line of JSON, then answers each line it is asked with another, and sleeps in between.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any


class Peer:
  """Runs a script of this folder. Ends the benchmark, saying which `option` names another Python, where it cannot."""

  def __init__(self, option: str, python: str, script: str, *arguments: object):
    self.option = option
    command = [python, str(pathlib.Path(__file__).with_name(script)), *map(str, arguments)]
    self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self.versions = self._answer()

  def ask(self, line: object) -> Any:
    print(line, file=self.process.stdin, flush=True)
    return self._answer()

  def _answer(self) -> Any:
    line = self.process.stdout.readline()
    if not line:
      python, script, *_ = self.process.args
      ended = f"{python} {script} ended with {self.process.wait()}, see above"
      sys.exit(f"{ended}; {self.option}=PYTHON names one that has what it needs")
    return json.loads(line)

  def close(self) -> None:
    self.process.communicate()
