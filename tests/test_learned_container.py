"""The blob of a learned codec: what is written is read back, and nothing else is taken for it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress.codecs import frames
from robust_compress.codecs.learned import container
from robust_compress.codecs.learned.container import Header
from robust_compress.types import CodecError, SpecError

HEADER = Header("mbt2018-mean", "0123abcd", 512, 768, 3.5)
SYMBOLS = [np.arange(-6, 6, dtype=np.int32).reshape(3, 4), np.zeros(5, np.int32)]
STRINGS = [b"hyper" * 30, b"latent" * 200]

headers = st.builds(
  Header,
  model=st.sampled_from(container.MODELS),
  weights=st.binary(min_size=4, max_size=4).map(bytes.hex),
  height=st.integers(1, 9000),
  width=st.integers(1, 9000),
  level=st.integers(0, 65535).map(lambda steps: steps / container.LEVEL_STEPS),
  coder=st.sampled_from(container.CODERS),
)


@given(headers, st.lists(st.binary(max_size=300), min_size=1, max_size=container.MAX_STRINGS))
def test_read_inverts_write(header, strings):
  contents = container.read(container.write(header, strings, SYMBOLS))
  assert (contents.header, contents.strings) == (header, tuple(strings))
  container.check(contents, SYMBOLS)


@pytest.mark.parametrize("size", [(1, 1), (512, 768), (3000, 4000), (5461, 16384), (1, frames.MAX_PIXELS)])
@pytest.mark.parametrize("n_hyper", [0, 127, 16383, 2**21 - 1])
def test_the_header_takes_at_most_20_bytes(size, n_hyper):
  header = HEADER._replace(height=size[0], width=size[1])
  strings = [bytes(n_hyper), b"latent"]
  assert len(container.write(header, strings, SYMBOLS)) - n_hyper - 6 <= 20


def test_a_header_of_an_ordinary_picture_takes_18_bytes():
  assert len(container.write(HEADER, STRINGS, SYMBOLS)) == sum(map(len, STRINGS)) + 18


@pytest.mark.parametrize("part", [0, 1])
def test_other_symbols_are_told(part):
  contents = container.read(container.write(HEADER, STRINGS, SYMBOLS))
  other = [array.copy() for array in SYMBOLS]
  other[part].flat[2] += 1
  with pytest.raises(CodecError, match="mbt2018-mean: decodes to other symbols"):
    container.check(contents, other)


def test_the_checksum_is_that_of_values_and_not_of_memory():
  contents = container.read(container.write(HEADER, STRINGS, SYMBOLS))
  container.check(contents, [SYMBOLS[0].astype(">i8").T.copy().T, SYMBOLS[1]])


def test_every_changed_byte_is_told():
  """Of the header by one of its checksums, of the strings by `damage` but for one in 256, which symbols then tell."""
  blob = container.write(HEADER, [b"abc", b"defg"], SYMBOLS)
  missed = 0
  for at in range(len(blob)):
    for flip in range(1, 256):
      damaged = blob[:at] + bytes([blob[at] ^ flip]) + blob[at + 1 :]
      try:
        contents = container.read(damaged)
        container.check(contents, SYMBOLS)
      except CodecError:
        continue
      missed += 1
      assert contents.header == HEADER
  assert missed <= 7 * 255 / 64


@given(st.binary(max_size=60))
def test_anything_is_an_error_or_within_limits(data):
  for blob in (data, bytes([container.TAG, 2 << 3 | 2]) + data):
    try:
      header = container.read(blob).header
    except CodecError:
      continue
    assert 0 < header.height * header.width <= frames.MAX_PIXELS


@pytest.mark.parametrize("end", range(0, 170, 7))
def test_a_blob_that_is_cut_short_is_an_error(end):
  with pytest.raises(CodecError):
    container.read(container.write(HEADER, STRINGS, SYMBOLS)[:end])


def _blob(start=None, end=b""):
  blob = container.write(HEADER, STRINGS, SYMBOLS)
  return (start or b"") + blob[len(start or b"") :] + end


@pytest.mark.parametrize(
  ("blob", "message"),
  [
    (b"", "0 bytes are not of a learned codec"),
    (b"\xff\xd8\xff\xe0JFIF", "8 bytes are not of a learned codec"),
    (_blob(bytes([container.TAG, 30 << 3])), "no model 30, they go to 6"),
    (_blob(bytes([container.TAG, 2 << 3 | 2]) + b"wght" + b"\xff" * 5), "no number ends within 5 bytes of byte 6"),
    (_blob(bytes([container.TAG, 2 << 3 | 2]) + b"wght" + b"\xff\xff\x7f" * 2), "over the limit of"),
    (_blob(bytes([container.TAG, 2 << 3 | 2]) + b"wght" + b"\0\1"), "holds no pixel"),
    (_blob()[:100], "100 bytes where the header declares 168 or more; the blob is cut short"),
    (_blob(end=b"?"), "checksum over 1369 bytes is wrong"),
  ],
)
def test_errors_say_what_is_wrong(blob, message):
  with pytest.raises(CodecError, match=re.escape(message)):
    container.read(blob)


def test_weights_that_are_not_at_hand_are_named():
  container.require(HEADER, "0123abcd")
  with pytest.raises(CodecError, match="mbt2018-mean: coded with the weights 0123abcd; those at hand are 00000000"):
    container.require(HEADER, "00000000")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"level": 0.3}, "level 0.3 is no multiple of 1/256"),
    ({"level": 256.0}, "level 256.0 is no multiple of 1/256 under 256"),
    ({"level": float("nan")}, "level nan"),
    ({"weights": "abc"}, "weights 'abc'; expected 8 hexadecimal digits"),
    ({"model": "mbt2018-means"}, "did you mean 'mbt2018-mean'"),
    ({"coder": "ans"}, "no coder 'ans'"),
    ({"width": 0}, "holds no pixel"),
  ],
)
def test_what_cannot_be_written_is_an_error(change, message):
  with pytest.raises((CodecError, SpecError), match=re.escape(message)):
    container.write(HEADER._replace(**change), STRINGS, SYMBOLS)
  container.write(HEADER._replace(level=container.round_level(0.3)), STRINGS, SYMBOLS)


@pytest.mark.parametrize("n", [0, container.MAX_STRINGS + 1])
def test_the_number_of_strings_is_limited(n):
  with pytest.raises(CodecError, match=f"{n} strings; expected 1 to 4"):
    container.write(HEADER, [b""] * n, SYMBOLS)
