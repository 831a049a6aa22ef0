"""Foreign streams, decoded by a process that may die of them.

    caller ──codec, blob──▶ pipe ──▶ worker: load_codec(codec).decode([blob]) ──▶ pipe ──shape, pixels──▶ caller
                                     within limits of time and of memory

A stream that this project did not write may make a decoder crash, run for ever, or fill the memory. Here it ends a
worker: the caller gets a CodecError that says which, and the next stream a new worker. A message on the pipes is

    uint32 length │ JSON header │ raw bytes        (nothing is unpickled, and what the worker says of sizes is checked)

The worker imports neither jax nor tensorflow, so that it starts in a fraction of a second. Where the system has no
such limits (Windows), time is still limited and a crash still survived; memory is not limited there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
from typing import Any, BinaryIO

import numpy as np

from robust_compress.codecs import frames, load_codec
from robust_compress.types import Clip, CodecError, SpecError

START_S = 120  # a worker that has not started by then will not
_MAX_HEADER = 1 << 16


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
    timeout_s: for one stream, of wall time and of processor time.
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
      _send(worker.stdin, {"codec": codec, "n_bytes": len(blob)}, blob)
      return _receive(worker.stdout, 3 * frames.MAX_PIXELS)
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
    command = [sys.executable, "-m", "robust_compress.foreign", str(self.memory_bytes), str(self.timeout_s)]
    here = os.pathsep.join(path or os.getcwd() for path in sys.path)  # codecs of the user's are found there as here
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    worker = subprocess.Popen(command, env={**os.environ, **one, "PYTHONPATH": here}, **pipes)
    timer = threading.Timer(START_S, worker.kill)
    timer.start()
    try:
      _receive(worker.stdout, 0)
    except (EOFError, ValueError):
      worker.kill()
      _, said = worker.communicate()
      reason = said.decode(errors="replace").strip().rpartition("\n")[2] or "it gave no reason"
      limit = f"{self.memory_bytes >> 20} MiB of memory"
      raise WorkerError("crash", f"the worker for foreign streams did not start with {limit}: {reason}") from None
    finally:
      timer.cancel()
    self.n_started += 1
    return worker


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


# ---------------------------------------------------------------------------------------------- messages


def _send(pipe: BinaryIO, header: dict[str, Any], data: Any = b"") -> None:
  encoded = json.dumps(header).encode()
  pipe.write(struct.pack("<I", len(encoded)) + encoded)
  pipe.write(data)
  pipe.flush()


def _receive(pipe: BinaryIO, max_bytes: float) -> tuple[dict[str, Any], bytearray]:
  """Raises EOFError where the pipe ends, ValueError for what is no message or holds more than `max_bytes`."""
  length = int.from_bytes(_exactly(pipe, 4), "little")
  if length > _MAX_HEADER:
    raise ValueError(f"a header of {length} bytes")
  header = json.loads(_exactly(pipe, length))
  n_bytes = header.get("n_bytes", 0) if isinstance(header, dict) else None
  if type(n_bytes) is not int or not 0 <= n_bytes <= max_bytes:
    raise ValueError(f"a message of {n_bytes!r} bytes")
  return header, _exactly(pipe, n_bytes)


def _exactly(pipe: BinaryIO, n_bytes: int) -> bytearray:
  data, n_read = bytearray(n_bytes), 0
  while n_read < n_bytes:
    n_new = pipe.readinto(memoryview(data)[n_read:])
    if not n_new:
      raise EOFError(f"{n_read} of {n_bytes} bytes")
    n_read += n_new
  return data


# ------------------------------------------------------------------------------------- inside the worker


def main(memory_bytes: int, timeout_s: float) -> None:
  """Answers questions on standard input until it ends. What libraries print goes nowhere."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to act on
  _limit("RLIMIT_CORE", 0)
  _limit("RLIMIT_AS", memory_bytes)
  questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
  _send(answers, {"ready": True})
  with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 1)
    os.dup2(nowhere.fileno(), 2)
  while True:
    try:
      question, blob = _receive(questions, math.inf)
    except EOFError:
      return
    _limit("RLIMIT_CPU", math.ceil(sum(os.times()[:2]) + timeout_s))  # ends one whose caller is gone
    header, pixels = _answer(question["codec"], bytes(blob))
    _send(answers, {**header, "n_bytes": len(pixels), "peak_bytes": _peak_bytes()}, pixels)


def _answer(codec: str, blob: bytes) -> tuple[dict[str, Any], Any]:
  try:
    [clip] = load_codec(codec).decode([blob])
    frames.check_clip(codec, clip)
    return {"shape": clip.shape}, np.ascontiguousarray(clip).reshape(-1).data
  except SpecError as error:
    return {"error": "spec", "message": str(error)}, b""
  except Exception as error:
    kind = "memory" if _out_of_memory(error) else "codec" if isinstance(error, CodecError) else "bug"
    message, name = str(error) if kind == "codec" else repr(error), codec.partition("(")[0]
    whose = "" if message.startswith(name) or kind == "bug" else f"{name}: "
    return {"error": kind, "message": f"{whose}{message}"[:2000]}, b""


def _out_of_memory(error: BaseException | None) -> bool:
  """Whether an error is, or was raised for, a MemoryError."""
  while error is not None:
    if isinstance(error, MemoryError):
      return True
    error = error.__cause__
  return False


def _limit(name: str, value: int) -> None:
  """Sets a soft limit of this process, where the system has it and allows it."""
  try:
    import resource

    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
  except (ImportError, AttributeError, ValueError, OSError):
    pass


def _peak_bytes() -> int:
  try:
    import resource
  except ImportError:
    return 0
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
