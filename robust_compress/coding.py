"""Codes the pictures of a study where it is missing: on the cores of all hosts, or by the runner of a Beam pipeline.

(data, point) ──▶ Job ──▶ coded/<codec>-<key>/
target rate ──levels.settle──▶ the test data at one level, or at a few ──▶ levels/<key>.json
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence

from tqdm import tqdm

from robust_compress import compress, parallel
from robust_compress.data.shards import Manifest
from robust_compress.job import Job
from robust_compress.pictures import Pictures, job_of
from robust_compress.types import Point

LOG = logging.getLogger("robust_compress")


class Coding:
  """Every host calls these methods alike, and leaves them when all are done.

  Args:
    pictures: of the study.
    replace: pictures that were coded under other conditions are coded again, instead of being an error.
    beam: options of Apache Beam, whose runner codes then; () codes on the hosts of this run.
  """

  def __init__(self, pictures: Pictures, replace: bool = False, beam: Sequence[str] = ()):
    self.pictures, self.config, self.replace, self.beam = pictures, pictures.config, replace, tuple(beam)

  def settle(self, point: Point) -> None:
    """Finds what stands for a target rate; says so where it is out of reach."""
    levels = self.pictures.levels
    levels.settle(point, lambda coded: self.code(self.config.test_data, coded).bpp)
    if (notice := levels.notice(point)) and parallel.host() == 0:
      LOG.warning(notice)
      tqdm.write(notice, file=sys.stderr)

  def code(self, data: str, point: Point) -> Manifest:
    """Codes all pictures of a data set; what stands already is not coded again."""
    job = self.pictures.job(data, point)
    if not self.beam:
      return self.run(job)
    if parallel.host() == 0:
      from robust_compress import beam  # an extra, imported by those who ask for it

      make_job = functools.partial(job_of, self.config, self.pictures.workdir.absolute(), data, point)
      beam.write_shards(make_job, self.beam, n_workers=self.config.n_workers or 1, replace=self.replace)
    return _finished(job)

  def run(self, job: Job) -> Manifest:
    """Codes what is missing of a job on the hosts of this run."""
    compress.write_shards(
      job, host=parallel.host(), n_hosts=parallel.n_hosts(),
      n_workers=self.config.n_workers or None, replace=self.replace,
    )  # fmt: skip
    return _finished(job)


def _finished(job: Job) -> Manifest:
  """The whole set, when all hosts have made their shards."""
  name = job.path("").name
  parallel.barrier(f"coded {name}")
  if parallel.host() == 0:
    compress.finish(job)
  parallel.barrier(f"finished {name}")
  return compress.finish(job)
