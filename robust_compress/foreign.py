"""Foreign streams, decoded by a process that may die of them.

    caller ──codec, blob──▶ pipe ──▶ worker: load_codec(codec).decode([blob]) ──▶ pipe ──shape, pixels──▶ caller
                                     within limits of time and of memory

A stream that this project did not write may make a decoder crash, run for ever, or fill the memory. Here it ends a
worker (`foreign_worker.py`): the caller gets a CodecError that says which, and the next stream a new worker. Nothing is
unpickled, and what the worker says of sizes is checked. Where the system knows no limit on memory (Windows), time is
limited all the same and a crash survived.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from robust_compress.codecs import frames, load_codec
from robust_compress.foreign_worker import receive, send
from robust_compress.types import Clip, CodecError, SpecError

START_S = 120  # a worker that has not started by then will not


class WorkerError(CodecError):
  """A stream that the worker did not answer with pixels or with the codec's own error.

  `reason` is 'crash', 'time-out', 'memory', or 'bug': an exception that a decoder should not let out.
  """

  def __init__(self, reason: str, message: str):
    super().__init__(message)
    self.reason = reason


class ForeignDecoder:
  """Decodes blobs of unknown origin in a worker process, which is kept for the next one.

  One stream at a time; threads wait for each other. Use it in a `with` block, or call `close`.

  Args:
    timeout_s: for one stream, of wall time, and on each core of processor time.
    memory_bytes: address space of the worker, of which Python and the codecs take about half a gigabyte.
  """

  def __init__(self, timeout_s: float = 60, memory_bytes: int = 2 << 30):
    self.timeout_s, self.memory_bytes = timeout_s, memory_bytes
    self.peak_bytes = 0  # most memory that a worker was seen to hold
    self.n_started = 0
    self._worker: subprocess.Popen | None = None
    self._lock = threading.Lock()

  def __enter__(self) -> ForeignDecoder:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the worker; the next `decode` starts another."""
    if self._worker is None:
      return
    self._worker.kill()
    for pipe in (self._worker.stdin, self._worker.stdout, self._worker.stderr):
      with contextlib.suppress(OSError):  # what it did not read any more
        pipe.close()
    self._worker.wait()
    self._worker = None

  def decode(self, codec: str, blob: bytes) -> Clip:
    """The uint8[t h w 3] that `load_codec(codec).decode([blob])` gives.

    Raises:
      SpecError: an unknown codec or option.
      CodecError: bytes that are not this codec's, in its own words; a crash, a time-out or a memory limit, by name.
    """
    with self._lock:
      if self._worker is None or self._worker.poll() is not None:
        self.close()
        self._worker = self._start()
      answer, pixels = self._ask(codec, blob)
    self.peak_bytes = max(self.peak_bytes, int(answer.get("peak_bytes", 0)))
    if "error" not in answer:
      return _clip(codec, answer, pixels)
    message = str(answer.get("message"))
    if answer["error"] == "spec":
      raise SpecError(message)
    if answer["error"] == "memory":
      limit = f"{self.memory_bytes >> 20} MiB of memory"
      raise WorkerError("memory", f"{codec}: decoding {len(blob)} bytes takes more than the worker's {limit}")
    if answer["error"] == "bug":
      raise WorkerError("bug", f"{codec}: damaged, and its decoder did not expect it: {message}")
    raise CodecError(message)

  def _ask(self, codec: str, blob: bytes) -> tuple[dict[str, Any], bytearray]:
    """One question to the worker; its end is the only other thing that can happen."""
    worker, late = self._worker, threading.Event()
    timer = threading.Timer(self.timeout_s, lambda: (late.set(), worker.kill()))
    timer.start()
    try:
      send(worker.stdin, {"codec": codec, "n_bytes": len(blob), "timeout_s": self.timeout_s}, blob)
      return receive(worker.stdout, 3 * frames.MAX_PIXELS)
    except (OSError, EOFError, ValueError) as error:
      timer.cancel()
      worker.kill()  # it has ended already, unless it answered what is no message
      raise self._ended(codec, len(blob), late.is_set()) from error
    except BaseException:  # an answer is still to come, and must not be taken for the next one's
      self.close()
      raise
    finally:
      timer.cancel()
      timer.join()
      if late.is_set():  # perhaps just after the answer
        self.close()

  def _ended(self, codec: str, n_bytes: int, late: bool) -> WorkerError:
    status = self._worker.wait()
    if late or status == -getattr(signal, "SIGXCPU", 0):
      remedy = "the stream is damaged, or made to hang decoders"
      return WorkerError("time-out", f"{codec}: not decoded within {self.timeout_s:g} s; {remedy}")
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return WorkerError("crash", f"{codec}: the decoder crashed ({how}) on {n_bytes} bytes; the stream is damaged")

  def _start(self) -> subprocess.Popen:
    command = [sys.executable, "-m", "robust_compress.foreign_worker", str(self.memory_bytes)]
    here = os.pathsep.join(path or os.getcwd() for path in sys.path)  # codecs of the user's are found there as here
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    worker = subprocess.Popen(command, env={**os.environ, **one, "PYTHONPATH": here}, **pipes)
    timer = threading.Timer(START_S, worker.kill)
    timer.start()
    try:
      receive(worker.stdout, 0)
    except (EOFError, ValueError):
      worker.kill()
      _, said = worker.communicate()
      reason = said.decode(errors="replace").strip().rpartition("\n")[2] or "it gave no reason"
      limit = f"{self.memory_bytes >> 20} MiB of memory"
      raise WorkerError("crash", f"the worker for foreign streams did not start with {limit}: {reason}") from None
    finally:
      timer.cancel()
      timer.join()
    self.n_started += 1
    return worker


def limits(codec: str) -> dict[str, Any]:
  """Arguments of a `ForeignDecoder` for a codec whose decoder needs other limits than most. Raises as `load_codec`."""
  return dict(getattr(load_codec(codec), "foreign_limits", ()))


def decode(codec: str, blob: bytes, timeout_s: float = 60, memory_bytes: int = 2 << 30) -> Clip:
  """One stream by a worker of its own; for several, keep a `ForeignDecoder`."""
  with ForeignDecoder(timeout_s, memory_bytes) as decoder:
    return decoder.decode(codec, blob)


def _clip(codec: str, answer: dict[str, Any], pixels: bytearray) -> Clip:
  """The pixels in their shape, which is the worker's word until it is checked."""
  shape = answer.get("shape")
  if not (isinstance(shape, list) and len(shape) == 4 and all(type(n) is int for n in shape) and shape[3] == 3):
    raise WorkerError("crash", f"{codec}: the worker answered a shape {shape!r:.80}; expected [t, h, w, 3]")
  frames.check_size(codec, shape[:3])
  if math.prod(shape) != len(pixels):
    raise WorkerError("crash", f"{codec}: the worker answered {len(pixels)} bytes of pixels for {shape}")
  return np.frombuffer(pixels, np.uint8).reshape(shape)
