"""Learned codecs as codecs: which weights, which levels, and a network at work on pictures.

    clip[t h w 3] ──frames──▶ picture.encode ──▶ blob ──picture.decode──frames──▶ clip[t h w 3]
                                   ▲ weights of a level, read once ▲

Pictures of a batch are worked on by threads, each alone: a blob depends on nothing but the picture, the level, the
weights and the kind of device. Weights are read, and jax and the coders imported, when the first picture comes; until
then a codec costs nothing, so that lists and plans can hold it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from robust_compress import provenance
from robust_compress.codecs import checks, frames
from robust_compress.codecs.learned import container, weights
from robust_compress.codecs.learned.networks import FILES_AT, METRICS, load_network
from robust_compress.specs import format_call
from robust_compress.types import Clip, CodecError, Coded, LevelError, SpecError, WeightsError

if TYPE_CHECKING:
  from robust_compress.codecs.learned.programs import Programs

_GAIN = "gain_y.log_gain"  # its rows are the levels
_QUALITY = re.compile(r"-(\d)-[0-9a-f]{8}\.pth\.tar")  # in the name of a published file
T = TypeVar("T")


class _Opened(NamedTuple):
  """A blob whose header was read: what `frames.decode_frames` asks of one."""

  height: int
  width: int
  contents: container.Contents


class LearnedCodec:
  """A network with its weights.

  Levels are qualities. Weights with gain units take every real one from 1 to the last; a folder of CompressAI's files
  the whole ones, a file each; a single file of one rate the quality in its name, or else 1.

  Args:
    name: of the network.
    weights: '' for those that come with this package; a file of any others; a folder of CompressAI's files.
    metric: which of CompressAI's, 'mse' or 'ms-ssim'.
    coder: of `container.CODERS`, to encode with. A blob says which one it was.

  Raises:
    SpecError: an option outside its choices; names them.
    LevelError: a level that the weights do not have; names the range.
    WeightsError: weights that are missing, damaged, or another network's; says what is needed.
    CodecError: a picture that cannot be coded; bytes that are no blob of this network and these weights.
  """

  batched = True
  reconstructs = True  # `encode` can give the decoder's pixels at the cost of the synthesis
  foreign_limits = (("timeout_s", 1800), ("memory_bytes", 8 << 30))  # jax reserves address space by the gigabyte

  def __init__(self, name: str, *, weights: str = "", metric: str = "mse", coder: str = "constriction"):
    checks.choice(name, "metric", metric, METRICS)
    checks.choice(name, "coder", coder, container.CODERS)
    if weights and not Path(weights).exists():
      raise WeightsError(f"{name}: no file or folder {weights}; expected weights, or a folder of CompressAI's")
    self.name, self.metric, self.coder = name, metric, coder
    self._network, self._given = load_network(name), Path(weights) if weights else None
    if self._given and self._given.is_dir() and not self._network.files:
      raise SpecError(f"{name}: {weights} is a folder, and no files of it were published; name one file of weights")
    self._programs: dict[int, Programs] = {}  # by quality, where each has a file of its own
    self._reading = threading.Lock()

  @functools.cached_property
  def levels(self) -> tuple[float, ...]:
    """The whole ones. Where there are no weights, those that were published."""
    path = self._file
    if path is None or self._is_folder:
      return tuple(range(1, len(self._network.widths) + 1))
    if self._n_gains:
      return tuple(range(1, self._n_gains + 1))
    named = _QUALITY.search(path.name)
    return (int(named[1]) if named else 1,)

  def check_level(self, level: float) -> None:
    checks.level(self.name, level, (self.levels[0], self.levels[-1]), "quality", not self._n_gains)

  def fingerprint(self) -> str:
    """Reads the weights, whose key is in it, asks jax for the kind of device, and computes a little."""
    import jax

    from robust_compress.codecs.learned import arithmetic, coders, strings

    jax_version, scipy_version = map(importlib.metadata.version, ("jax", "scipy"))  # scipy's ndtr makes the tables
    libraries = f"jax {jax_version} on {jax.default_backend()}, arithmetic {arithmetic.fingerprint()}"
    libraries += f", scipy {scipy_version}"
    coder = f"{coders.load_coder(self.coder).fingerprint()}, strings {strings.VERSION}"
    return f"{format_call(self.name, {'coder': self.coder})}, weights {self._key()}, {libraries}, {coder}"

  def encode(self, clips: Sequence[Clip], levels: Sequence[float], reconstruct: bool = False) -> list[Coded]:
    """uint8[t h w 3] clips to blobs, one level each; with `reconstruct`, also to what `decode` gives of them."""
    for clip, level in zip(clips, levels, strict=True):
      self.check_level(level)
      frames.check_clip(self.name, clip)
    return _by_threads(lambda clip, level: self._encode_one(clip, level, reconstruct), clips, levels)

  def decode(self, blobs: Sequence[bytes]) -> list[Clip]:
    """Blobs to uint8[t h w 3] clips. Nothing is allocated before the declared sizes are checked.

    A blob too short for its size is refused at once. Of mixtures (cheng2020-gmm) a few bytes may hold any size: they
    take the time of a picture as large as declared, which at the limit on pixels ends by `foreign_limits` alone. And
    they decode only on a processor whose arithmetic is that of the one that coded them (`arithmetic.py`).
    """
    return _by_threads(lambda blob: frames.decode_frames(blob, self.name, self._decode_one, self._open), blobs)

  def _encode_one(self, clip: Clip, level: float, reconstruct: bool) -> Coded:
    level = container.round_level(level)
    programs, pixels = self._programs_at(level), []
    from robust_compress.codecs.learned import picture

    def encode_frame(frame: np.ndarray) -> bytes:
      blob, decoded = picture.encode(programs, frame, level, self.coder, reconstruct)
      pixels.append(decoded)
      return blob

    blob = frames.encode_frames(clip, encode_frame)
    return Coded(blob, np.stack(pixels) if reconstruct else None)

  def _open(self, blob: bytes) -> _Opened:
    try:
      contents = container.read(blob)
    except CodecError as error:
      raise CodecError(f"{self.name}: {str(error).partition(': ')[2]}") from error  # in place of what the blob claims
    header = contents.header
    if header.model != self.name:
      raise CodecError(f"{self.name}: coded by {header.model}; decode by that")
    return _Opened(header.height, header.width, contents)

  def _decode_one(self, opened: _Opened) -> np.ndarray:
    from robust_compress.codecs.learned import picture

    header = opened.contents.header
    try:
      programs = self._programs_at(header.level)
      container.require(header, programs.loaded.key)
      if self._n_gains or self._is_folder:  # weights of one rate have one level, which hangs on their file's name
        self.check_level(header.level)
    except WeightsError as error:
      raise WeightsError(f"{error}. The blob was coded with the weights {header.weights}") from error
    except LevelError as error:
      raise CodecError(f"{self.name}: the blob is damaged; there is no such level ({error})") from error
    return picture.decode(programs, opened.contents)

  # ----------------------------------------------------------------------------------------------- weights

  @functools.cached_property
  def _file(self) -> Path | None:
    return self._given or weights.shipped(self.name)

  @functools.cached_property
  def _is_folder(self) -> bool:
    return self._file is not None and self._file.is_dir()

  @functools.cached_property
  def _n_gains(self) -> int:
    """Levels of the gain units. Other weights than this project's own have none."""
    path = self._file
    return _rows_of(path, _GAIN) if path is not None and path.suffix == ".safetensors" else 0

  def _key(self) -> str:
    """What tells these weights from others; a folder's files are told by the hashes in their names."""
    return f"of CompressAI for {self.metric}" if self._is_folder else self._programs_at(self.levels[0]).loaded.key

  def _programs_at(self, level: float) -> Programs:
    """The network with the weights that a level is coded with."""
    quality = int(level) if self._is_folder else 0
    with self._reading:
      if quality not in self._programs:
        self._programs[quality] = self._read(quality)
      return self._programs[quality]

  def _read(self, quality: int) -> Programs:
    from robust_compress.codecs.learned import programs

    path = self._file
    if path is None:
      published = f", or a folder of CompressAI's files from {FILES_AT}" if self._network.files else ""
      raise WeightsError(
        f"{self.name}: no weights come with this package. Name a file of them{published}: {self.name}(weights=PATH)"
      )
    if self._is_folder:
      path = weights.published(self.name, self.metric, quality, path)
    found = programs.of_file(self.name, path, path.stat().st_mtime_ns)
    if found.loaded.levels != self._n_gains:
      raise WeightsError(f"{self.name}: {path} has gain units; such weights are read from .safetensors alone")
    return found


# --------------------------------------------------------------------------------------------------- parts


def _rows_of(path: Path, key: str) -> int:
  """Of an array in a file, by its header alone. 0 where there is none, or in a damaged file: reading tells."""
  import safetensors

  try:
    with safetensors.safe_open(path, "numpy") as file:
      shape = file.get_slice(key).get_shape() if key in list(file.keys()) else ()
      return int(shape[0]) if len(shape) == 2 and shape[1] else 0
  except (OSError, safetensors.SafetensorError):
    return 0


def _by_threads(function: Callable[..., T], *columns: Iterable) -> list[T]:
  """One call an item, in their order. A single one needs no thread."""
  rows = list(zip(*columns, strict=True))
  return [function(*row) for row in rows] if len(rows) < 2 else list(_pool().map(function, *columns))


@functools.cache
def _pool() -> ThreadPoolExecutor:
  """Shared by all codecs: no more pictures at once than cores."""
  return ThreadPoolExecutor(provenance.n_cores(), "learned")
