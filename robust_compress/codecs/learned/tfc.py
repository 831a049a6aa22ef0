"""TensorFlow Compression's range coder (Ballé et al. 2018-2024), with the interface of `coder.py`.

    Encoder, Decoder ──npz──▶ pipe ──▶ tfc_worker.py in .venv-tfc ──▶ range coder ops ──▶ pipe ──npz──▶ string, symbols

No environment holds its ops beside a current jax, so they have one of their own (`make tfc`) and a process that stays:
it starts in seconds and then codes millions of symbols a second. Strings are others than those of `coder.py`, symbols
are the same. The ops take all tables of a string at once: one string has symbols by one set of tables, or bits.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import threading
import weakref
from pathlib import Path

import numpy as np

from robust_compress.codecs.learned import tfc_worker
from robust_compress.codecs.learned.coder import check_indexes, check_ones, check_symbols
from robust_compress.codecs.learned.tables import MAX_SYMBOL, Tables
from robust_compress.types import CodecError

PYTHON_VARIABLE = "ROBUST_COMPRESS_TFC"  # where another Python than that of `.venv-tfc` has the ops
TIMEOUT_S = 300  # for one question, the start of the process included: a busy machine takes a minute to import
_numbers = itertools.count()


class Encoder:
  """As `coder.Encoder`, of one set of tables or of bits. Nothing is coded before `string`."""

  def __init__(self) -> None:
    self._rows = _Rows()
    self._portions: list[tuple[np.ndarray, np.ndarray]] = []

  def put(self, symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> None:
    """Appends int32[n]; as `coder.Encoder.put`."""
    check_symbols(symbols)
    check_indexes(indexes, len(tables))
    if len(symbols) != len(indexes):
      raise CodecError(f"{len(symbols)} symbols with {len(indexes)} indexes; expected one each")
    self._rows.use(tables)
    self._portions.append((indexes, symbols - tables.offsets[indexes]))

  def put_bits(self, bits: np.ndarray, ones: np.ndarray) -> None:
    """Appends bool[n]; as `coder.Encoder.put_bits`."""
    check_ones(ones)
    self._rows.use(None)
    self._portions.append((ones - 1, bits))

  def string(self) -> bytes:
    """Everything that was put. Raises CodecError where the ops are not installed."""
    if not self._portions:
      return b""
    indexes, symbols = (np.concatenate(parts).astype(np.int32) for parts in zip(*self._portions))
    return _WORKER.ask(do="encode", indexes=indexes, symbols=symbols, **self._rows.lookup())["string"].tobytes()


class Decoder:
  """As `coder.Decoder`, of one set of tables or of bits."""

  def __init__(self, string: bytes) -> None:
    self._string = np.frombuffer(string, np.uint8)
    self._rows = _Rows()
    self._number = np.array(next(_numbers))
    self._process = 0  # which one holds it: the first is 1
    weakref.finalize(self, _WORKER.closed.append, self._number)

  def get(self, indexes: np.ndarray, tables: Tables) -> np.ndarray:
    """The next int32[n] symbols; as `coder.Decoder.get`."""
    check_indexes(indexes, len(tables))
    self._rows.use(tables)
    symbols = self._get(indexes) + tables.offsets[indexes].astype(np.int64)
    if np.abs(symbols).max(initial=0) > MAX_SYMBOL:
      raise CodecError(f"a coded string holds a symbol over {MAX_SYMBOL}; it is damaged, or not of these weights")
    return symbols.astype(np.int32)

  def get_bits(self, ones: np.ndarray) -> np.ndarray:
    """The next bool[n]; as `coder.Decoder.get_bits`."""
    check_ones(ones)
    self._rows.use(None)
    return self._get(ones - 1) == 1

  def _get(self, indexes: np.ndarray) -> np.ndarray:
    if not len(indexes):
      return np.zeros(0, np.int32)
    if not self._process:
      opened = _WORKER.ask(do="open", number=self._number, string=self._string, **self._rows.lookup())
      self._process = int(opened["process"])
    return _WORKER.ask(self._process, do="get", number=self._number, indexes=indexes.astype(np.int32))["symbols"]


def fingerprint() -> str:
  """Versions that make its strings. Raises CodecError where the ops are not installed."""
  return str(_WORKER.ask(do="versions")["versions"])


def python() -> Path:
  """The Python that has the ops. Raises CodecError where there is none; says how to get it."""
  beside = Path(__file__).parents[3] / ".venv-tfc/bin/python"
  given = Path(os.environ.get(PYTHON_VARIABLE, beside))
  if not given.is_file():
    raise CodecError(
      f"coder 'tfc': no Python at {given}. TensorFlow Compression needs an environment of its own: `make tfc` builds "
      f"it, and {PYTHON_VARIABLE} names the Python of another one"
    )
  return given


class _Rows:
  """Which rows a string is coded by: decided by what comes first."""

  def __init__(self) -> None:
    self._used: list[Tables | None] = []

  def use(self, tables: Tables | None) -> None:
    """Tables, or None for bits."""
    if not self._used:
      self._used.append(tables)
    if self._used[0] is not tables:
      raise CodecError("coder 'tfc': a string is of one set of tables or of bits; put other symbols into another one")

  def lookup(self) -> dict[str, np.ndarray]:
    [tables] = self._used
    if tables is None:
      return {}
    return {"lookup": np.hstack([np.full((len(tables), 1), -16, np.int32), tables.cdfs])}


class _Worker:
  """The process, started by the first question. Threads wait for each other."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._process: subprocess.Popen | None = None
    self._n_started = 0
    self.closed: list[np.ndarray] = []  # decoders that nobody holds any more; told with the next question

  def ask(self, process: int | None = None, **question: np.ndarray | str) -> dict[str, np.ndarray]:
    """An answer, and in it the number of the process that gave it.

    Raises CodecError with the ops' own words, where the process ended or did not answer, or where it is another than
    the one that is meant.
    """
    with self._lock:
      if self._process is None or self._process.poll() is not None:
        self.end()
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        command = [str(python()), tfc_worker.__file__]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=_environment(), **pipes)
        self._n_started += 1
      if process not in (None, self._n_started):
        raise CodecError("coder 'tfc': its process ended while this string was being decoded; decode it again")
      closed = [self.closed.pop() for _ in range(len(self.closed))]
      answer = self._ask({**question, "closed": np.array(closed, np.int64)})
      answer["process"] = np.array(self._n_started)
    if "error" in answer:
      raise CodecError(f"coder 'tfc': {answer['error']}; the string is damaged, or not of these weights")
    return answer

  def _ask(self, question: dict) -> dict[str, np.ndarray]:
    timer = threading.Timer(TIMEOUT_S, self._process.kill)
    timer.start()
    try:
      tfc_worker.write(self._process.stdin, question)
      return tfc_worker.read(self._process.stdout)
    except (OSError, EOFError) as error:
      self.end()
      raise CodecError(
        f"coder 'tfc': its process ended, or took more than {TIMEOUT_S} s; a damaged string, or a broken environment: "
        f"{python()} {tfc_worker.__file__} < /dev/null says more"
      ) from error
    except BaseException:  # an answer is still to come, and must not be taken for the next one's
      self.end()
      raise
    finally:
      timer.cancel()

  def end(self) -> None:
    """Ends the process; the next question starts another."""
    process, self._process = self._process, None
    if process is not None:
      process.kill()
      for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what it did not read any more
          pipe.close()
      process.wait()


def _environment() -> dict[str, str]:
  """Without what would lead its Python to packages of this one."""
  return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


_WORKER = _Worker()
atexit.register(_WORKER.end)
