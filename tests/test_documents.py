"""What is written for people names files that exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PLACES = (ROOT, ROOT / "robust_compress")  # a path is written from the root or from the package
DOCUMENTS = sorted(ROOT.glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(document):
  text = document.read_text()
  paths = re.findall(r"`((?:\w+/)+[\w.]*)[:`]", text) + re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
  named = [path for path in paths if "NAME" not in path and not path.startswith("runs/")]
  missing = [path for path in named if not any((place / path).exists() for place in PLACES)]
  assert not missing
