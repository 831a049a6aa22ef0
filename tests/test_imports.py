"""Who may import whom: the layers of the package, held by reading the imports of every file."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "robust_compress"
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


TYPES = {"types", "specs"}
CORE = {"protocols", "store", "files", "rate", "statistics", "provenance", "convert"}
BELOW = TYPES | CORE
BUILT = TYPES | {"data", "parallel", "state", "optim", "metric_writers", "store", "files", "statistics"}
ANYTHING = {part_of(path) for path in FILES}
ALLOWED = {  # part of the package: the parts that it may import, besides itself
  "types": TYPES,
  "specs": TYPES,
  "files": TYPES,
  **dict.fromkeys(CORE - {"files"}, TYPES | {"files"}),
  **dict.fromkeys(("codecs", "models", "tasks"), BELOW | {"winograd"}),
  "data": BELOW | {"codecs"},
  "ahead": set(),
  "allocator": set(),
  "winograd": set(),
  "parallel": TYPES | {"allocator"},
  **dict.fromkeys(("state", "optim"), TYPES),
  "metric_writers": TYPES | {"files"},
  "job": BELOW | {"data", "codecs"},
  "compress": BELOW | {"ahead", "allocator", "data", "job"},
  "beam": BELOW | {"data", "job", "compress"},
  **dict.fromkeys(("foreign", "foreign_worker"), TYPES | {"codecs", "foreign_worker"}),
  "inspect": BELOW | {"ahead", "data", "codecs", "foreign", "report"},  # of the report: how figures and tables look
  "train": BUILT,
  "evaluate": BUILT,
  "report": BELOW - {"convert", "files"},
  "settings": TYPES,
  "levels": BELOW | {"codecs", "job"},
  "pictures": BELOW | {"codecs", "data", "job", "levels"},
  "named": BELOW | {"codecs", "models"},
  "starting": BELOW | {"codecs", "data"},
  "trained": BELOW | {"models", "named"},
  **dict.fromkeys(
    ("bench", "cells", "coding", "listing", "measuring", "planning", "showcase", "study"), ANYTHING - {"main"}
  ),
  **dict.fromkeys(("equal_bytes", "failures"), ANYTHING - {"main"}),
  **dict.fromkeys(("main", "__main__"), ANYTHING),
}
ONLY_FROM = {"main": {"__main__"}, "study": {"main", "planning"}}  # these may import them (planning: for its type)
APART = {"codecs/learned/tfc_worker.py"}  # scripts that run in an environment of their own
FOREIGN = {"jax", "flax", "optax", "orbax", "clu", "tensorflow", "tensorflow_datasets", "torch"}


def imports(path):
  """(dotted name, whether at the top of the module) of everything a file imports."""
  tree = ast.parse(path.read_text())
  package = ("robust_compress", *path.relative_to(PACKAGE).parent.parts)
  inner = {
    id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, id(node) not in inner) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = ".".join(package[: len(package) + 1 - node.level]) + "." if node.level else ""
      module = base + (node.module or "")
      yield from ((f"{module.rstrip('.')}.{alias.name}", id(node) not in inner) for alias in node.names)


def parts_imported(path):
  for name, _ in imports(path):
    package, _, rest = name.partition(".")
    part = rest.split(".")[0]
    if package == "robust_compress" and part and not part.startswith("__version"):
      yield part


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layers(path):
  part = part_of(path)
  if part == "__init__":
    assert not list(parts_imported(path))
    return
  assert part in ALLOWED, f"{part} has no place among the layers: give it a line in ALLOWED and in the design"
  imported = set(parts_imported(path)) - {part}
  assert imported <= ALLOWED[part], f"{path.name} imports {imported - ALLOWED[part]}"
  for target in imported & set(ONLY_FROM):
    assert part in ONLY_FROM[target], f"{path.name} imports {target}"


@pytest.mark.parametrize("name", ["IGNORED", "BACKGROUND", "CROWD"])
def test_what_parts_have_to_agree_on_stands_once(name):
  found = [
    path.relative_to(PACKAGE).as_posix()
    for path in FILES
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.Assign) and name in ast.unparse(node.targets[0]).strip("()").replace("_", "").split(", ")
  ]
  assert len(found) == 1, f"{name} stands in {', '.join(found)}; let the others import it"


@pytest.mark.parametrize(
  "path",
  [path for path in FILES if path.relative_to(PACKAGE).as_posix() not in APART],
  ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_tensorflow_and_torch_are_imported_when_first_used(path):
  for name, at_top in imports(path):
    package = name.split(".")[0]
    if package in ("tensorflow", "tensorflow_datasets", "torch", "torchvision", "timm"):
      assert not at_top, f"{name} is imported with the module"
      owners = ("convert", "main", "study") if package == "torch" else ("data",)
      assert part_of(path) in owners, f"{package} belongs in {owners}"


def test_train_and_evaluate_see_no_registry():
  for verb in ("train", "evaluate"):
    names = [name for name, _ in imports(PACKAGE / f"{verb}.py")]
    assert not [name for name in names if name.startswith("robust_compress.data.sources")]


@pytest.mark.parametrize(
  ("modules", "forbidden"),
  [
    ([f"robust_compress.{part}" for part in sorted(BELOW)], FOREIGN),
    (["robust_compress.report"], FOREIGN),
    (["robust_compress.codecs.learned.networks"], FOREIGN),  # the table; building a network imports jax
    (["robust_compress.data", "robust_compress.compress"], FOREIGN - {"flax", "jax"}),
    (["robust_compress.train", "robust_compress.evaluate", "robust_compress.data.pipeline"], {"tensorflow", "torch"}),
  ],
  ids=["core", "report", "networks", "data", "verbs"],
)
def test_what_an_import_drags_in(modules, forbidden):
  packages = [name.replace(".", "/") for name in modules]
  modules = [name for name, path in zip(modules, packages) if (ROOT / f"{path}.py").exists() or (ROOT / path).is_dir()]
  code = f"import sys, {', '.join(modules)}; print(*(sys.modules.keys() & {sorted(forbidden)}))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == []
