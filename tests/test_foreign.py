"""Streams of unknown origin: whatever they make a decoder do, the caller gets pixels or a CodecError."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robust_compress import foreign
from robust_compress.codecs import load_codec
from robust_compress.foreign import ForeignDecoder, WorkerError
from robust_compress.types import CodecError, SpecError
from tests.fakes import photo

UNRULY = "tests.fakes:Unruly"


@pytest.fixture(scope="module")
def decoder():
  with ForeignDecoder(timeout_s=20) as decoder:
    yield decoder


def coded(codec="jpeg", n_frames=1):
  return load_codec(codec).encode([photo(n_frames=n_frames)], [50])[0].blob


@pytest.mark.parametrize("codec", ["jpeg", "webp(method=6)", "avif"])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_pixels_are_those_of_the_codec(decoder, codec, n_frames):
  blob = coded(codec, n_frames)
  pixels = decoder.decode(codec, blob)
  assert np.array_equal(pixels, load_codec(codec).decode([blob])[0])
  assert pixels.dtype == np.uint8
  assert pixels.flags.writeable


def test_errors_are_the_codecs_own(decoder):
  for blob in (coded()[:100], b"", b"CLIP"):
    with pytest.raises(CodecError) as here:
      load_codec("jpeg").decode([blob])
    with pytest.raises(CodecError) as there:
      decoder.decode("jpeg", blob)
    assert str(there.value) == str(here.value)
  with pytest.raises(SpecError, match="did you mean 'jpeg'"):
    decoder.decode("jpg", coded())


@pytest.mark.parametrize(
  ("blob", "reason", "message"),
  [
    (b"crash", "crash", r"Unruly: the decoder crashed \(SIG(SEGV|BUS)\) on 5 bytes; the stream is damaged"),
    (b"leave", "crash", r"the decoder crashed \(exit status 3\)"),
    (b"fill", "memory", "decoding 4 bytes takes more than the worker's 2048 MiB of memory"),
    (b"fill_quietly", "memory", "takes more than the worker's 2048 MiB"),
    (b"stumble", "bug", "damaged, and its decoder did not expect it: IndexError"),
  ],
)
def test_what_a_stream_does_to_a_decoder_is_named(decoder, blob, reason, message):
  with pytest.raises(WorkerError, match=message) as error:
    decoder.decode(UNRULY, blob)
  assert error.value.reason == reason
  assert decoder.decode(UNRULY, b"black").shape == (2, 3, 4, 3)


@pytest.mark.parametrize("blob", [b"spin", b"sleep"])
def test_a_stream_that_never_ends_is_given_up(blob):
  with ForeignDecoder() as decoder:
    decoder.decode(UNRULY, b"black")
    decoder.timeout_s, start = 1, time.perf_counter()
    with pytest.raises(WorkerError, match="not decoded within 1 s") as error:
      decoder.decode(UNRULY, blob)
    assert error.value.reason == "time-out"
    assert time.perf_counter() - start < 20
    decoder.timeout_s = 60
    assert decoder.decode(UNRULY, b"black").shape == (2, 3, 4, 3)


def test_a_stream_that_spins_when_its_caller_is_gone_ends_by_its_processor_time():
  """Until then it would be the caller that kills it."""
  with ForeignDecoder() as decoder:
    decoder.decode(UNRULY, b"black")
    foreign.send(decoder._worker.stdin, {"codec": UNRULY, "n_bytes": 4, "timeout_s": 1}, b"spin")
    assert decoder._worker.wait(60) == -signal.SIGXCPU
    assert decoder._ended(UNRULY, 4, late=False).reason == "time-out"


def test_a_worker_serves_many_streams_and_is_replaced_after_a_crash(decoder):
  decoder.close()
  before = decoder.n_started
  for _ in range(5):
    decoder.decode("jpeg", coded())
  assert decoder.n_started == before + 1
  with pytest.raises(WorkerError):
    decoder.decode(UNRULY, b"leave")
  decoder.decode("jpeg", coded())
  assert decoder.n_started == before + 2


def test_a_worker_killed_between_two_streams_is_replaced(decoder):
  decoder.decode("jpeg", coded())
  os.kill(decoder._worker.pid, signal.SIGKILL)
  decoder._worker.wait()
  assert decoder.decode("jpeg", coded()).shape == (1, 48, 64, 3)


def test_what_a_library_prints_is_no_answer(decoder):
  assert decoder.decode(UNRULY, b"print").shape == (2, 3, 4, 3)


def test_an_answer_that_is_no_clip_is_refused(decoder):
  with pytest.raises(CodecError, match=r"uint8\[1, 3, 4\]"):
    decoder.decode(UNRULY, b"grey")


def test_memory_is_a_stated_bound():
  with ForeignDecoder(memory_bytes=1 << 30) as decoder:
    with pytest.raises(WorkerError, match="1024 MiB"):
      decoder.decode("webp", big_webp())
    assert decoder.decode("jpeg", coded()).shape == (1, 48, 64, 3)
    assert 0 < decoder.peak_bytes < 1 << 30


def big_webp():
  """Nine thousand pixels square, of one colour: a few kilobytes that decode to a quarter of a gigabyte."""
  return load_codec("webp").encode([np.zeros((1, 9000, 9000, 3), np.uint8)], [0])[0].blob


def test_a_worker_that_does_not_start_says_so(monkeypatch):
  monkeypatch.setattr(sys, "executable", "false")
  with pytest.raises(CodecError, match="foreign streams did not start with 64 MiB of memory: it gave no reason"):
    foreign.decode("jpeg", b"", memory_bytes=64 << 20)


def test_threads_take_turns(decoder):
  blobs = [coded(codec) for codec in ("jpeg", "webp") for _ in range(6)]
  names = ["jpeg"] * 6 + ["webp"] * 6
  with ThreadPoolExecutor(4) as pool:
    clips = list(pool.map(decoder.decode, names, blobs))
  assert all(clip.shape == (1, 48, 64, 3) for clip in clips)


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(monkeypatch, decoder):
  receive = foreign.receive

  def interrupted(*args):
    raise KeyboardInterrupt

  decoder.decode("jpeg", coded())
  monkeypatch.setattr(foreign, "receive", interrupted)
  with pytest.raises(KeyboardInterrupt):
    decoder.decode("jpeg", coded())
  monkeypatch.setattr(foreign, "receive", receive)
  assert decoder.decode(UNRULY, b"black").shape == (2, 3, 4, 3)


def test_a_worker_ends_with_its_caller():
  program = (
    "import os\nfrom robust_compress.foreign import ForeignDecoder\n"
    "decoder = ForeignDecoder()\ndecoder.decode('tests.fakes:Unruly', b'black')\n"
    "print(decoder._worker.pid, flush=True)\nos._exit(0)"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  pid = int(done.stdout)
  for _ in range(100):
    if not os.path.exists(f"/proc/{pid}"):
      return
    time.sleep(0.05)
  pytest.fail(f"worker {pid} outlives its caller")


def test_no_thread_is_left_behind():
  n_threads = threading.active_count()
  foreign.decode("jpeg", coded())
  assert threading.active_count() <= n_threads


def test_the_worker_imports_neither_jax_nor_tensorflow():
  program = (
    "import sys, robust_compress.foreign_worker\nprint(*(sys.modules.keys() & {'jax', 'flax', 'tensorflow', 'torch'}))"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  assert done.stdout.split() == []
