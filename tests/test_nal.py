"""NAL units: what is written is read back, for any bytes and any fields; what ends early is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_compress.codecs import nal
from robust_compress.types import CodecError

# An RBSP ends in its stop bit: anything, then a byte that is not zero. Escaping is about zeros and small bytes.
rbsps = st.builds(
  lambda body, last: bytes(body) + bytes([last]),
  st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255])),
  st.integers(1, 255),
)


@given(rbsps)
def test_escape_inverts_and_leaves_no_start_code(rbsp):
  unit = nal.escape(rbsp)
  assert nal.unescape(unit) == rbsp
  assert all(bytes((0, 0, n)) not in unit for n in range(3))


@pytest.mark.parametrize(
  ("rbsp", "unit"),
  [
    (b"\0\0\0\0\1", b"\0\0\3\0\0\3\1"),
    (b"\0\0\3\4", b"\0\0\3\3\4"),
    (b"\0\0\4", b"\0\0\4"),
    (b"\7\0\0", b"\7\0\0\3"),
  ],
)
def test_escape_is_that_of_the_standard(rbsp, unit):
  assert nal.escape(rbsp) == unit
  assert nal.unescape(unit) == rbsp


@given(st.lists(rbsps.map(nal.escape)), st.sampled_from([b"\0\0\1", b"\0\0\0\1", b"\0\0\0\0\0\1"]))
def test_split_inverts_join(units, start_code):
  assert nal.split(nal.join(units, start_code)) == units


def test_bytes_before_the_first_start_code_are_refused():
  assert nal.split(b"") == nal.split(b"\0\0") == []
  with pytest.raises(CodecError, match="5 bytes that do not begin with a start code"):
    nal.split(b"\5\0\0\1\7")


fields = st.lists(
  st.one_of(
    st.tuples(st.just("u"), st.integers(0, 40)).flatmap(
      lambda kind: st.tuples(st.just(kind), st.integers(0, 2 ** kind[1] - 1))
    ),
    st.tuples(st.just(("flag",)), st.booleans()),
    st.tuples(st.just(("ue",)), st.integers(0, 2**32 - 2)),
  ),
  max_size=20,
)


@given(fields)
def test_fields_come_back(fields):
  writer = nal.BitWriter()
  for (kind, *width), value in fields:
    getattr(writer, kind)(*width, value)
  writer.trail()
  reader = nal.BitReader(writer.bytes())
  assert [getattr(reader, kind)(*width) for (kind, *width), _ in fields] == [value for _, value in fields]
  assert reader.flag()
  assert 0 <= reader.remaining < 8
  assert reader.u(reader.remaining) == 0


@pytest.mark.parametrize(("value", "bits"), [(0, "1"), (1, "010"), (2, "011"), (3, "00100"), (7, "0001000")])
def test_exp_golomb_is_that_of_the_standard(value, bits):
  writer = nal.BitWriter()
  writer.ue(value)
  assert int.from_bytes(writer.bytes(), "big") == int(bits.ljust(8, "0"), 2)


@given(st.binary(max_size=12), st.lists(st.sampled_from(["ue", "flag"]), min_size=100, max_size=100))
def test_reading_past_the_end_is_an_error(data, kinds):
  reader = nal.BitReader(data)
  with pytest.raises(CodecError, match=r"cut short|damaged"):
    [getattr(reader, kind)() for kind in kinds]


def test_a_value_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="4 does not fit in an unsigned field of 2 bits"):
    nal.BitWriter().u(2, 4)
