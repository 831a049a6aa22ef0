"""The tasks. A new one is a file here and a line in the table."""

from __future__ import annotations

import importlib

from robust_compress import specs
from robust_compress.types import SpecError, Task

TASKS = {
  "classification": ("robust_compress.tasks.classification:Classification", "one class a picture; top-1 and top-5"),
}


def load_task(name: str) -> Task:
  """A task by its name in the table, or by 'package.module:attribute' of a class or function that makes one."""
  if name not in TASKS and ":" not in name:
    raise specs.nearest("task", name, TASKS, "robust-compress list tasks")
  module, _, attribute = (TASKS[name][0] if name in TASKS else name).partition(":")
  try:
    return getattr(importlib.import_module(module), attribute)()
  except (ImportError, AttributeError) as error:
    raise SpecError(f"task {name!r} cannot be imported: {error}; expected package.module:attribute") from error
