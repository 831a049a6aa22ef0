"""The C library's allocator, told to keep the memory that a compiled step frees, because the next step wants it again.

By default glibc returns large blocks to the system as soon as they are freed. XLA's CPU backend allocates and frees the
buffers of every step, so each step would have the system map, and clear, hundreds of thousands of pages anew: measured
on a small convolutional network, a third of the time of a training step.
"""

from __future__ import annotations

import ctypes
import functools
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of <malloc.h>


@functools.cache
def keep_freed_memory() -> bool:
  """From now on freed memory stays with this process, in one arena that all threads share, for its later allocations.

  Best called before devices start their threads; once is enough. Nothing happens, and False is returned, where the C
  library is not glibc. What is gone is the shrinking in between: a process stays as large as it once was.
  """
  if platform.libc_ver()[0] != "glibc":
    return False
  libc = ctypes.CDLL(None)
  settings = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
  taken = [libc.mallopt(name, value) for name, value in settings]
  return all(taken)
