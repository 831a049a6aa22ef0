"""The verb `compress` on a cluster: the shards of `compress.py`, by an Apache Beam pipeline of one element a shard.

    here: missing shards ──Create──▶ Reshuffle ──▶ workers: make_job() once, code_shards(job, [shard]) ──▶ files
    here, when all are done: finish(job) ──▶ index.npy, manifest.json

Pictures and blobs do not travel through Beam: workers read the source and write their shards themselves, so both must
lie where every worker sees them under one path. A shard appears whole or not at all, and its bytes depend on the plan
alone, so Beam may try one twice, and what was killed goes on from whole shards, under any runner or under none.
Runners and their options are Beam's own; `launch/beam.md` has examples.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Sequence

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions

from robust_compress import compress, types
from robust_compress.data.shards import Manifest, Plan
from robust_compress.job import Job
from robust_compress.types import StoreError


def write_shards(
  make_job: Callable[[], Job], options: Sequence[str] = (), *,
  n_workers: int = 1, verify: bool = False, replace: bool = False,
) -> Manifest:  # fmt: skip
  """Codes what is missing of a job, waits for it, and joins the shards to one set.

  Args:
    make_job: opens the job, here and on every worker, so it must pickle.
    options: of Beam, as its command line has them: ('--runner=FlinkRunner', '--flink_master=host:8081').
    n_workers: threads that code a shard; how many shards are in work at once is Beam's to decide.
    verify: read what stands and make damaged shards again, instead of trusting sizes.
    replace: put away shards of another plan, instead of refusing.

  Raises:
    StoreError: another plan's shards in the folder; a worker that sees other pictures or has another codec than here.
    DataError, CodecError: a picture that cannot be read or coded, under on_bad='error'; whole shards stay.
  """
  job = make_job()
  missing = compress.missing_shards(job, range(job.plan.n_shards), verify=verify, replace=replace)
  if missing:
    stale = [(shard, job.path(job.plan.shard_name(shard)).exists()) for shard in missing]
    with _own_errors(), apache_beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
      elements = pipeline | "Missing shards" >> apache_beam.Create(stale) | apache_beam.Reshuffle()
      _ = elements | f"Code {job.name}" >> apache_beam.ParDo(_CodeShard(make_job, job.plan, n_workers))
  return compress.finish(job)


class _CodeShard(apache_beam.DoFn):
  """(shard, whether one stands there that is to be made again) -> shard, once its file is there."""

  def __init__(self, make_job: Callable[[], Job], plan: Plan, n_workers: int):
    self.make_job, self.plan, self.n_workers = make_job, plan, n_workers

  def setup(self) -> None:
    """Opens the job in this worker, and compares it with the caller's: pictures, codec, versions."""
    self.job = self.make_job()
    if differences := self.job.plan.differences(self.plan):
      remedy = "give all workers the same pictures, under the same path, and the same packages"
      raise StoreError(f"a worker on {socket.gethostname()} would code something else: {differences}; {remedy}")

  def process(self, element: tuple[int, bool]) -> Iterator[int]:
    shard, stale = element
    if stale or not self.job.path(self.plan.shard_name(shard)).exists():  # else an earlier try made it
      compress.code_shards(self.job, [shard], n_workers=self.n_workers, progress=False)
    yield shard


_QUOTED = re.compile(r"robust_compress\.types\.(\w+Error): (.*?)(?: \[while running .*)?$", re.MULTILINE)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
  """An error of a worker's is raised here as it was there; most runners only quote it in one of their own."""
  try:
    yield
  except Exception as error:
    quoted = _QUOTED.findall(f"{type(error).__module__}.{type(error).__name__}: {error}")
    if not quoted:
      raise
    name, message = quoted[-1]
    raise getattr(types, name)(message) from error
