"""What is recorded beside a row: plain values, true ones, and never a reason to fail."""

import json
import subprocess

import numpy as np

from robust_compress import provenance


def test_everything_is_plain_json_and_there():
  found = provenance.provenance("robust-compress run")
  assert json.loads(json.dumps(found)) == found
  assert found["command"] == "robust-compress run"
  assert found["versions"]["numpy"] == np.__version__
  assert found["hardware"]["n_cpu"] >= 1
  assert found["time"].endswith("+00:00")


def test_git_state_is_of_this_checkout_or_empty():
  state = provenance.git_state()
  assert state == {} or (len(state["commit"]) == 40 and isinstance(state["dirty"], bool))


def test_a_foreign_repository_is_not_ours(tmp_path, monkeypatch):
  """The package installed below somebody else's checkout, as in a .venv of theirs."""
  package = tmp_path / "venv" / "robust_compress"
  package.mkdir(parents=True)
  for command in (
    ["init", "-q"],
    ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"],
  ):
    subprocess.run(["git", "-C", tmp_path, *command], check=True)
  monkeypatch.setattr(provenance.robust_compress, "__file__", str(package / "__init__.py"))
  provenance._git_state.cache_clear()
  try:
    assert provenance.git_state() == {}
  finally:
    provenance._git_state.cache_clear()


def test_no_git_is_no_error(monkeypatch, tmp_path):
  monkeypatch.setenv("PATH", str(tmp_path))
  assert provenance._git(tmp_path, "status") is None


def test_the_hash_of_a_file(tmp_path):
  (tmp_path / "weights").write_bytes(b"abc")
  assert provenance.sha256_file(tmp_path / "weights").startswith("ba7816bf8f01cfea")
