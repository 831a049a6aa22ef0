"""Freed memory stays with the process: large arrays made again and again touch no new pages."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from robust_compress import allocator

if sys.argv[1] == "keep":
  assert allocator.keep_freed_memory()
for _ in range(4):
  np.ones(1 << 22)  # 32 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
  np.ones(1 << 22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
  return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_arrays_reuse_their_pages():
  kept, returned = faults("keep"), faults("default")
  assert kept < 100 < returned, f"{kept} page faults with kept memory, {returned} without"


def test_another_c_library_is_left_alone(monkeypatch):
  from robust_compress import allocator

  monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
  monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("loaded"))
  assert not allocator.keep_freed_memory.__wrapped__()
