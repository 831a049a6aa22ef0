"""Where a number comes from: what is recorded beside a row and never compared.

What can change a number (codec, data, weights, precision, kind of device) stands in the row's fingerprint instead.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shlex
import socket
import subprocess
import sys
from typing import Any

import robust_compress

_PACKAGES = (
  "clu",
  "flax",
  "jax",
  "jaxlib",
  "numpy",
  "optax",
  "orbax-checkpoint",
  "pillow",
  "scipy",
  "tensorflow",
  "tensorflow-cpu",
  "tensorflow-datasets",
)


def provenance(command: str | None = None) -> dict[str, Any]:
  """Time, versions, commit, machine and command of this process, for `Row.provenance`. Plain JSON values."""
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": shlex.join(sys.argv) if command is None else command,
    "versions": versions(),
    "git": git_state(),
    "hardware": hardware(),
  }


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
  found = [("python", platform.python_version()), ("robust-compress", robust_compress.__version__)]
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found.append((name, importlib.metadata.version(name)))
  return tuple(found)


def versions() -> dict[str, str]:
  """Versions of Python, of this project and of the installed packages it computes with, read without importing them."""
  return dict(_versions())


@functools.cache
def _git_state() -> tuple[tuple[str, Any], ...]:
  package = pathlib.Path(robust_compress.__file__).resolve().parent
  top, commit = _git(package, "rev-parse", "--show-toplevel"), _git(package, "rev-parse", "HEAD")
  if not top or not commit or pathlib.Path(top).resolve() != package.parent:
    return ()  # no repository, or that of somebody else in which this package is installed
  return ("commit", commit), ("dirty", bool(_git(package, "status", "--porcelain", "--untracked-files=no")))


def git_state() -> dict[str, Any]:
  """{'commit': hash, 'dirty': whether tracked files are changed} of this project's checkout, {} where it is none."""
  return dict(_git_state())


def _git(directory: pathlib.Path, *arguments: str) -> str | None:
  environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
  try:
    done = subprocess.run(
      ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=10, env=environment
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, Any]:
  """{'cpu': its name, 'n_cpu': cores this process may use, 'host': name}. Accelerators are jax's to name."""
  return {"cpu": _cpu(), "n_cpu": n_cores(), "host": socket.gethostname()}


def n_cores() -> int:
  """Those this process may use, which under a scheduler are fewer than the machine has."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _cpu() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor() or platform.machine()


def sha256_file(path: str | os.PathLike[str]) -> str:
  """Hex digest of a file's contents, as in weights named 'file:<sha256>'."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
