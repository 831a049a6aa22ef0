"""The process behind `foreign.py`: decodes what it is sent, within limits, until it is told no more.

    stdin ──codec, blob──▶ load_codec(codec).decode([blob]) ──shape, pixels │ error──▶ stdout

A message on the pipes is uint32 length │ JSON header │ raw bytes. Neither jax nor tensorflow is imported before a codec
needs it, so that a worker starts in a fraction of a second.
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from robust_compress.codecs import frames, load_codec
from robust_compress.types import CodecError, SpecError, WeightsError

_MAX_HEADER = 1 << 16


def send(pipe: BinaryIO, header: dict[str, Any], data: Any = b"") -> None:
  """Writes a message; a header that speaks of `data` holds its length as `n_bytes`."""
  encoded = json.dumps(header).encode()
  pipe.write(struct.pack("<I", len(encoded)) + encoded)
  pipe.write(data)
  pipe.flush()


def receive(pipe: BinaryIO, max_bytes: float) -> tuple[dict[str, Any], bytearray]:
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


# ------------------------------------------------------------------------------------------- the process


def main(memory_bytes: int) -> None:
  """Answers questions on standard input until it ends. What libraries print goes nowhere."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to act on
  _limit("RLIMIT_CORE", 0)
  _limit("RLIMIT_AS", memory_bytes)
  questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
  send(answers, {"ready": True})
  with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 1)
    os.dup2(nowhere.fileno(), 2)
  while True:
    try:
      question, blob = receive(questions, math.inf)
    except EOFError:
      return
    processor_s = question["timeout_s"] * (os.cpu_count() or 1)  # some decoders keep all cores busy
    _limit("RLIMIT_CPU", math.ceil(sum(os.times()[:2]) + processor_s))  # ends one whose caller is gone
    header, pixels = _answer(question["codec"], bytes(blob))
    send(answers, {**header, "n_bytes": len(pixels), "peak_bytes": _peak_bytes()}, pixels)


def _answer(codec: str, blob: bytes) -> tuple[dict[str, Any], Any]:
  try:
    [clip] = load_codec(codec).decode([blob])
    frames.check_clip(codec, clip)
    return {"shape": clip.shape}, np.ascontiguousarray(clip).reshape(-1).data
  except SpecError as error:
    return {"error": "spec", "message": str(error)}, b""
  except Exception as error:
    kind = "memory" if _out_of_memory(error) else "codec" if isinstance(error, (CodecError, WeightsError)) else "bug"
    message, name = str(error) if kind == "codec" else repr(error), codec.partition("(")[0]
    whose = "" if message.startswith(name) or kind == "bug" else f"{name}: "
    return {"error": kind, "message": f"{whose}{message}"[:2000]}, b""


def _out_of_memory(error: BaseException | None) -> bool:
  """Whether an error is, or was raised for, a MemoryError. FFmpeg's, which has an errno, may mean a damaged stream."""
  while error is not None:
    if isinstance(error, MemoryError) and not hasattr(error, "errno"):
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
  """The most memory that this process held; 0 where the system does not say. ru_maxrss would be the caller's too."""
  try:
    with open("/proc/self/status") as status:
      return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
  except (OSError, StopIteration):
    return 0


if __name__ == "__main__":
  main(int(sys.argv[1]))
