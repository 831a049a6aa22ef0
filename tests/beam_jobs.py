"""Jobs of `test_beam.py`, in a module that the workers of a pipeline can import too."""

from __future__ import annotations

import functools
import os

from robust_compress.codecs import load_codec
from robust_compress.job import Job
from tests.fakes import MemorySource, photo
from tests.test_compress import SlowSource


def pictures(n=23, **options):
  return MemorySource([photo(16 + 8 * (i % 2), 24, seed=i) for i in range(n)], **options)


def make_job(directory, codec="jpeg", level=20, source=pictures, **options):
  return Job(source(), load_codec(codec), level, directory, "jpeg@20", shard_size=5, **options)


def bad_pictures():
  return pictures(bad={7})


def other_on_the_worker(directory, pid):
  """A job whose pictures are others where it is opened by another process, as on a badly mounted worker."""
  return make_job(directory, source=functools.partial(pictures, 23 if os.getpid() == pid else 24))


def slow_pictures():
  return SlowSource([photo(16, 16, seed=i) for i in range(160)])
