"""Files that are whole or absent, whatever happens while they are written; and the lock of a workdir.

    bytes ──▶ .name.<host>-<pid>-<token>.tmp ──fsync, rename──▶ name
    per-example arrays, ragged or not ──▶ .npz without pickles ──▶ the same arrays

A process killed at any moment leaves at most a hidden temporary file, which the next `lock` of the folder removes.
Paths may be buckets (gs://…), where objects appear whole by themselves and nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import pathlib
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np
from etils import epath

from robust_compress.types import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
_TOKEN = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"  # whose temporary file it is
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^/]+)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_DAY_S = 24 * 3600


def is_local(path: epath.PathLike) -> bool:
  return "://" not in str(path) and not os.fspath(path).startswith(("/gs/", "/s3/", "/az/"))


@contextlib.contextmanager
def explained(path: epath.PathLike) -> Iterator[None]:
  """Turns a full disk, and a folder that cannot be written, into a StoreError that names the path and the remedy."""
  try:
    yield
  except OSError as error:
    if error.errno in _FULL:
      remedy = "nothing was lost: free some space and run the same command again"
      raise StoreError(f"{path}: no space left ({error.strerror}); {remedy}") from error
    if error.errno in _FORBIDDEN:
      where = error.filename or path
      raise StoreError(f"{where}: cannot be written ({error.strerror}); choose a workdir that can") from error
    raise


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[BinaryIO]:
  """Opens a file that takes the place of `path` when the block ends well, and vanishes when it does not.

  Raises:
    StoreError: the disk is full or the folder cannot be written; `path` is as it was.
  """
  path = epath.Path(path)
  if not is_local(path):  # objects in a bucket appear whole by themselves
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getvalue())
    return
  temporary = path.parent / f".{path.name}.{_TOKEN}.tmp"
  with explained(path):
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(temporary)
      raise


def write_atomic(path: epath.PathLike, data: bytes) -> None:
  """`path` holds all of `data`, or what it held before. Raises StoreError where the disk is full."""
  with replacing(path) as file:
    file.write(data)


def clean(directory: epath.PathLike) -> int:
  """Removes temporary files whose writer is gone; returns how many. Those of live processes stay."""
  n_removed = 0
  for path in pathlib.Path(directory).rglob(".*.tmp") if is_local(directory) else ():  # epath has no recursive glob
    match = _TEMPORARY.fullmatch(path.name)
    with contextlib.suppress(OSError):
      if match and not _is_alive(match["host"], int(match["pid"]), path):
        path.unlink()
        n_removed += 1
  return n_removed


def _is_alive(host: str, pid: int, path: pathlib.Path) -> bool:
  if host != socket.gethostname():
    return time.time() - path.stat().st_mtime < _DAY_S  # another machine's process cannot be asked
  if pid == os.getpid():
    return _TOKEN in path.name  # else of an earlier process that had our number, as in a container
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


_held: set[str] = set()  # workdirs locked by this process


@contextlib.contextmanager
def lock(workdir: epath.PathLike) -> Iterator[None]:
  """Holds `workdir` for this process, and clears what killed ones left behind. Nests within one process.

  The kernel lets go of the lock when the process ends, however it ends. Buckets have no locks: there it is a no-op.

  Raises:
    StoreError: another process holds it; names the process and its host.
  """
  if not is_local(workdir):
    yield
    return
  import fcntl

  directory, key = epath.Path(workdir), os.path.realpath(workdir)
  if key in _held:
    yield
    return
  with contextlib.ExitStack() as stack:
    with explained(directory):
      directory.mkdir(parents=True, exist_ok=True)
      file = stack.enter_context(open(directory / ".lock", "a+"))
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      holder = file.read().strip() or "another process"
      raise StoreError(f"{directory} is in use by {holder}; wait for it, stop it, or use another workdir") from None
    with explained(directory):
      file.truncate(0)
      file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
      file.flush()
    _held.add(key)
    try:
      clean(directory)
      yield
    finally:
      _held.remove(key)
      file.truncate(0)
      fcntl.flock(file, fcntl.LOCK_UN)  # also where a forked worker still holds the file open


# --------------------------------------------------------------------------------- per-example arrays


def write_records(
  path: epath.PathLike,
  ids: Sequence[str],
  records: Mapping[str, np.ndarray],
  replicates: Mapping[str, np.ndarray] | None = None,
) -> None:
  """An .npz of plain arrays. A ragged name becomes its values end to end, with the shape of each: no pickle."""
  arrays: dict[str, np.ndarray] = {"ids": np.asarray(ids, str)}
  for name, values in records.items():
    if len(values) != len(ids):
      raise StoreError(f"{path}: {len(values)} records of {name!r} for {len(ids)} ids; expected one for each")
    arrays |= _packed(name, values)
  arrays |= {f"replicates/{name}": np.asarray(values, np.float64) for name, values in (replicates or {}).items()}
  with replacing(path) as file:
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def read_records(path: epath.PathLike) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
  """(ids, records, replicates) of `write_records`. Raises StoreError where the file is missing or damaged."""
  path = epath.Path(path)
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
    records = {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith("records/")}
    for name in [key.split("/", 1)[1] for key in arrays if key.startswith("values/")]:
      records[name] = _unpacked(arrays[f"values/{name}"], arrays[f"shapes/{name}"])
    replicates = {name.split("/", 1)[1]: a for name, a in arrays.items() if name.startswith("replicates/")}
    return arrays["ids"].tolist(), records, replicates
  except FileNotFoundError:
    raise StoreError(f"{path}: there are no records of this cell; evaluate it again with --replace") from None
  except Exception as error:  # a damaged archive fails in as many ways as it has bytes
    raise StoreError(f"{path} is damaged ({error!r}); evaluate the cell again with --replace") from error


def _packed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
  if values.dtype != object:
    return {f"records/{name}": values}
  items = [np.asarray(item) for item in values]
  if any(item.dtype == object for item in items) or len({item.ndim for item in items}) > 1:
    raise StoreError(f"records {name!r}: every example's array must be of numbers or text, and of one number of axes")
  flat = np.concatenate([item.ravel() for item in items])
  return {f"values/{name}": flat, f"shapes/{name}": np.array([item.shape for item in items], np.int64)}


def _unpacked(values: np.ndarray, shapes: np.ndarray) -> np.ndarray:
  ragged, start = np.empty(len(shapes), object), 0
  for i, shape in enumerate(shapes.tolist()):
    stop = start + math.prod(shape)
    ragged[i] = values[start:stop].reshape(shape)
    start = stop
  return ragged
