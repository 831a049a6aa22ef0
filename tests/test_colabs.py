"""The notebooks: clean in git, and executed top to bottom at a small size."""

from __future__ import annotations

import json
import os
import pathlib
import sys

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_is_clean_in_git(path):
  """No outputs and no counts, and written as one would write it again, so that a diff shows what was changed."""
  text = path.read_text()
  notebook = json.loads(text)
  nbformat.validate(notebook)
  code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
  assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
  assert all(cell["metadata"] == {} for cell in notebook["cells"])
  assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


@each_notebook
def test_runs_top_to_bottom(path, tmp_path, monkeypatch):
  """In a kernel of this very Python, in a folder beside the configs, as colabs/ is; pictures are drawn inline."""
  folder = tmp_path / "colabs"
  folder.mkdir()
  (tmp_path / "configs").symlink_to(ROOT / "configs")
  monkeypatch.setenv("ROBUST_COMPRESS_SMALL", "1")
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
  monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
  monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
  manager = KernelManager()
  manager.kernel_spec.argv[0] = sys.executable
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
  outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
  assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
  printed = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
  assert "cells, 0 done" in printed
  assert (tmp_path / "runs" / "notebook_small" / "quickstart" / "report" / "report.html").exists()
