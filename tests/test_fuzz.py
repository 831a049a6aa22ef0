"""Thousands of mutated streams through every decoder: a CodecError, or a picture of the declared size."""

import contextlib

import numpy as np
import pytest

from robust_compress.codecs import load_codec
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.compress import compress
from robust_compress.data.cache import CodedSource
from robust_compress.foreign import ForeignDecoder, limits
from robust_compress.types import StoreError
from tests import fuzz_decoders
from tests.fakes import MemorySource, codec_params, installed_codecs, photo

N = 700  # streams a codec
LIMIT = 2 << 30

every_codec = pytest.mark.parametrize("codec", codec_params())


@pytest.fixture(scope="module")
def decoders():
  """A function from a codec to the worker for its streams: codecs of the same limits share one."""
  workers = {}
  with contextlib.ExitStack() as stack:

    def worker(codec):
      wanted = {"timeout_s": 30, "memory_bytes": LIMIT, **limits(codec)}
      if str(wanted) not in workers:
        workers[str(wanted)] = stack.enter_context(ForeignDecoder(**wanted))
      return workers[str(wanted)]

    yield worker


@every_codec
def test_damaged_streams_are_errors_or_pictures(decoders, codec):
  """In a worker, as the command line reads files; `fuzz_decoders.run` tells what a decoder should not let out."""
  decoder, counts, n = decoders(codec), {}, N // 2 if codec in NETWORKS else N  # networks are slow, and all alike
  fuzz_decoders.run(decoder, codec, n, 0, counts)
  assert counts["done"] == n
  assert counts.get("bug", 0) == counts.get("crash", 0) == counts.get("time-out", 0) == 0, counts["shown"]
  assert counts["CodecError"] > n / 4
  assert decoder.peak_bytes < LIMIT


@every_codec
def test_an_error_says_which_codec_and_what_is_wrong(decoders, codec):
  messages = {fuzz_decoders.outcome(decoders(codec), codec, fuzz_decoders.mutated(codec, k))[1] for k in range(40)} - {
    ""
  }
  assert messages
  assert all(message.startswith(f"{codec}: ") and len(message) > len(codec) + 12 for message in messages)
  assert not any(" object at 0x" in message for message in messages)


@every_codec
def test_the_own_streams_that_are_mutated_decode(decoders, codec):
  for blob in fuzz_decoders.streams(codec):
    assert fuzz_decoders.outcome(decoders(codec), codec, blob) == ("picture", "")


def test_mutations_are_reproducible_and_all_are_used():
  first = [fuzz_decoders.mutated("jpeg", k) for k in range(200)]
  assert first == [fuzz_decoders.mutated("jpeg", k) for k in range(200)]
  assert len(set(first)) > 190
  assert first != [fuzz_decoders.mutated("jpeg", k, seed=1) for k in range(200)]


@pytest.mark.parametrize("codec", [name for name in ("h264", "hevc", "jpeg") if name in installed_codecs()])
def test_a_shard_catches_damage_that_decodes_silently(tmp_path, codec):
  """A flipped bit may decode to other pixels without a word; read from a shard it is an error that names the shard."""
  coder = load_codec(codec)
  source = MemorySource([photo(48, 64, seed=seed, n_frames=2) for seed in range(3)])
  compress(source, coder, coder.levels[2], tmp_path, progress=False)
  [shard] = tmp_path.glob("shard-*.zip")
  whole, coded = shard.read_bytes(), CodedSource(source, tmp_path, coder)
  start, n_bytes = (int(coded.index[name][1]) for name in ("offset", "n_bytes"))
  for position in np.linspace(0, n_bytes - 1, 25).astype(int):
    damaged = bytearray(whole)
    damaged[start + position] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"shard-00000-of-00001.zip is damaged at picture 'picture/0001.png'"):
      CodedSource(source, tmp_path, coder).picture(1)
