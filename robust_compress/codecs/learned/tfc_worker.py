"""The process behind `tfc.py`: TensorFlow Compression's range coder, in an environment of its own.

    stdin ──do, arrays──▶ range coder ops ──arrays │ error──▶ stdout

A message on the pipes is uint64 length │ npz. This file is run as a script and imports nothing of this package, since
numpy is an older one here. A lookup holds rows of (±16, counts that rise from 0 to 65536); with -16, numbers outside a
row are coded behind its last bin, in Elias gamma code, by the ops themselves.
"""

from __future__ import annotations

import io
import os
import signal
import struct
import sys

import numpy as np

TOTAL = 1 << 16
_MAX_LOOKUPS = 16


def read(pipe):
  """The arrays of one message. Raises EOFError where the pipe ends."""
  with np.load(io.BytesIO(_exactly(pipe, *struct.unpack("<Q", _exactly(pipe, 8)))), allow_pickle=False) as arrays:
    return dict(arrays)


def write(pipe, arrays):
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  pipe.write(struct.pack("<Q", buffer.tell()) + buffer.getvalue())
  pipe.flush()


def _exactly(pipe, n_bytes):
  data = pipe.read(n_bytes)
  if len(data) < n_bytes:
    raise EOFError(f"{len(data)} of {n_bytes} bytes")
  return data


class Coder:
  """Answers questions; decoders stay open between them, under the caller's numbers."""

  def __init__(self):
    import tensorflow
    import tensorflow_compression_ops

    self.tf, self.ops = tensorflow, tensorflow_compression_ops
    self.lookups, self.decoders = {}, {}

  def answer(self, question):
    """Arrays to arrays. Questions: 'versions', 'encode' to a string, 'open' one, 'get' the next symbols of it."""
    for number in question.pop("closed", ()):
      self.decoders.pop(int(number), None)
    return getattr(self, "_" + str(question.pop("do")))(**question)

  def _versions(self):
    from importlib import metadata

    names = "tensorflow-compression-ops", "tensorflow"
    return {"versions": np.array(", ".join(f"{name} {metadata.version(name)}" for name in names))}

  def _encode(self, indexes, symbols, lookup=None):
    handle = self.ops.create_range_encoder(self.tf.constant([], self.tf.int32), self._lookup(lookup))
    handle = self.ops.entropy_encode_index(handle, self.tf.constant(indexes), self.tf.constant(symbols))
    string = self.ops.entropy_encode_finalize(handle).numpy()
    return {"string": np.frombuffer(string, np.uint8)}

  def _open(self, number, string, lookup=None):
    string = self.tf.constant(string.tobytes())
    self.decoders[int(number)] = self.ops.create_range_decoder(string, self._lookup(lookup))
    return {}

  def _get(self, number, indexes):
    handle = self.decoders[int(number)]
    shape, kind = self.tf.constant([len(indexes)]), self.tf.int32
    handle, symbols = self.ops.entropy_decode_index(handle, self.tf.constant(indexes), shape, kind)
    self.decoders[int(number)] = handle
    return {"symbols": symbols.numpy()}

  def _lookup(self, rows):
    """As a tensor, which all coders by the same rows share. Without rows: row i is a bit, set in i + 1 of 65536."""
    key = None if rows is None else rows.tobytes()
    if key not in self.lookups:
      if len(self.lookups) >= _MAX_LOOKUPS:
        self.lookups.pop(next(iter(self.lookups)))
      self.lookups[key] = self.tf.constant(_bit_rows() if rows is None else rows)
    return self.lookups[key]


def _bit_rows():
  unset = np.arange(TOTAL - 1, 0, -1, dtype=np.int32)
  return np.stack([np.full_like(unset, 16), 0 * unset, unset, np.full_like(unset, TOTAL)], axis=1)


def main():
  """Answers until standard input ends. What libraries print goes nowhere."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to act on
  questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
  with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 1)
  os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
  coder = Coder()
  while True:
    try:
      question = read(questions)
    except EOFError:
      return
    try:
      arrays = coder.answer(question)
    except Exception as error:  # damaged strings among them
      arrays = {"error": np.array(f"{type(error).__name__}: {error}"[:500])}
    write(answers, arrays)


if __name__ == "__main__":
  main()
