"""The sequence parameter set of an HEVC still picture: what of it a BPG file keeps, and a whole one made from that.

    an encoder's SPS ──from_sps──▶ Coding ──▶ BPG file ──▶ Coding ──sps──▶ a decoder's SPS

Everything else follows from the picture or is given by the BPG format: one sub-layer, no scaling lists, no long-term
references, asymmetric partitions and temporal motion vectors on. Names follow ITU-T H.265, 7.3.2.2.
"""

from __future__ import annotations

from robust_compress.codecs import bpg_fields
from robust_compress.codecs.bpg_fields import Coding
from robust_compress.codecs.nal import BitReader, BitWriter, escape, unescape
from robust_compress.types import CodecError

CHROMA_FORMAT_IDC = {400: 0, 420: 1, 422: 2, 444: 3}
_VPS_HEADER, _SPS_HEADER = b"\x40\x01", b"\x42\x01"
_FORMAT_RANGE_EXTENSIONS = 4  # the profile that has every chroma format and depth
_LEVEL = 186  # 6.2
_LOG2_MAX_POC_LSB = 8


def from_sps(unit: bytes, chroma: int, depth: int) -> tuple[tuple[int, int], Coding]:
  """The coded size (h, w) and the kept fields of an encoder's SPS unit.

  Raises CodecError where it says what a BPG file cannot: another chroma or depth, a cropping window, scaling lists.
  """
  bits = BitReader(unescape(unit))
  bits.u(16 + 4)  # the unit's header, the VPS's id
  _expect("sps_max_sub_layers_minus1", bits.u(3), 0)
  bits.u(1 + 88 + 8)  # nesting, profile, level
  _expect("sps_seq_parameter_set_id", bits.ue(), 0)
  _expect("chroma_format_idc", bits.ue(), CHROMA_FORMAT_IDC[chroma])
  if chroma == 444:
    _expect("separate_colour_plane_flag", bits.u(1), 0)
  width, height = bits.ue(), bits.ue()
  _expect("conformance_window_flag", bits.u(1), 0)
  _expect("bit_depth_luma_minus8", bits.ue(), depth - 8)
  _expect("bit_depth_chroma_minus8", bits.ue(), depth - 8)
  _expect("log2_max_pic_order_cnt_lsb_minus4", bits.ue(), _LOG2_MAX_POC_LSB - 4)
  _skip(bits, "uvvv")  # buffering of a sequence
  sizes = bpg_fields.read_sizes(bits)
  bits.ue()  # transforms of inter blocks
  intra_depth = bits.ue()
  _expect("scaling_list_enabled_flag", bits.u(1), 0)
  bits.u(1)  # amp_enabled_flag, of inter blocks
  sao, pcm = bits.flag(), bpg_fields.read_pcm(bits)
  _expect("num_short_term_ref_pic_sets", bits.ue(), 0)
  _expect("long_term_ref_pics_present_flag", bits.u(1), 0)
  bits.u(1)  # sps_temporal_mvp_enabled_flag, of inter blocks
  strong_smoothing = bits.flag()
  _skip_vui(bits)
  return (height, width), Coding(*sizes, intra_depth, sao, pcm, strong_smoothing, bpg_fields.read_extension(bits))


def vps() -> bytes:
  """A VPS of one layer of stills."""
  bits = BitWriter()
  bits.u(4, 0)  # id
  bits.u(2, 3)  # the base layer is here, and available
  bits.u(6 + 3, 0)  # one layer, one sub-layer
  bits.flag(True)  # temporal nesting
  bits.u(16, 0xFFFF)
  _write_profile(bits)
  _write_buffering(bits)
  bits.u(6, 0)  # vps_max_layer_id
  bits.ue(0)  # vps_num_layer_sets_minus1
  bits.u(2, 0)  # no timing, no extension
  bits.trail()
  return _VPS_HEADER + escape(bits.bytes())


def sps(coding: Coding, size: tuple[int, int], chroma: int, depth: int) -> bytes:
  """The SPS of a picture of the coded size (h, w)."""
  bits = BitWriter()
  bits.u(4 + 3, 0)  # VPS 0, one sub-layer
  bits.flag(True)  # temporal nesting
  _write_profile(bits)
  bits.ue(0)  # id
  bits.ue(CHROMA_FORMAT_IDC[chroma])
  bits.u(chroma == 444, 0)  # separate_colour_plane_flag, where chroma is 4:4:4
  bits.ue(size[1])
  bits.ue(size[0])
  bits.flag(False)  # no conformance window
  bits.ue(depth - 8)
  bits.ue(depth - 8)
  bits.ue(_LOG2_MAX_POC_LSB - 4)
  _write_buffering(bits)
  bpg_fields.write_sizes(bits, coding)
  bits.ue(coding.intra_depth)  # of inter blocks, of which there are none
  bits.ue(coding.intra_depth)
  bits.flag(False)  # no scaling lists
  bits.flag(True)  # asymmetric partitions
  bits.flag(coding.sao)
  bpg_fields.write_pcm(bits, coding.pcm)
  bits.ue(0)  # no reference picture sets
  bits.flag(False)
  bits.flag(True)  # temporal motion vectors
  bits.flag(coding.strong_smoothing)
  bits.flag(False)  # no VUI
  bpg_fields.write_extension(bits, coding.range_extension)
  bits.trail()
  return _SPS_HEADER + escape(bits.bytes())


# -------------------------------------------------------------------------------------------------- parts


def _write_profile(bits: BitWriter) -> None:
  bits.u(8, _FORMAT_RANGE_EXTENSIONS)
  bits.u(32, 1 << (31 - _FORMAT_RANGE_EXTENSIONS))  # compatible with itself
  bits.u(4, 0b1001)  # progressive, frames only
  bits.u(44, 0)
  bits.u(8, _LEVEL)


def _write_buffering(bits: BitWriter) -> None:
  bits.flag(True)
  for _ in range(3):  # room for the picture itself, no reordering, no latency
    bits.ue(0)


def _expect(name: str, found: int, expected: int) -> None:
  if found != expected:
    raise CodecError(f"the encoder's SPS has {name} = {found}; a BPG file of this picture needs {expected}")


def _skip(bits: BitReader, kinds: str) -> None:
  """Past fields of one bit ('u') and of a variable length ('v')."""
  for kind in kinds:
    bits.ue() if kind == "v" else bits.u(1)


def _skip_vui(bits: BitReader) -> None:
  """Past the VUI (annex E.2.1), which says how to show a video and nothing that decoding needs."""
  if not bits.flag():
    return
  if bits.flag() and bits.u(8) == 255:  # sample aspect ratio
    bits.u(32)
  if bits.flag():  # overscan
    bits.flag()
  if bits.flag():  # video signal type
    bits.u(3 + 1)
    if bits.flag():  # colour description
      bits.u(24)
  if bits.flag():  # chroma location
    _skip(bits, "vv")
  bits.u(3)
  if bits.flag():  # default display window
    _skip(bits, "vvvv")
  if bits.flag():  # timing
    bits.u(64)
    if bits.flag():
      bits.ue()
    if bits.flag():
      raise CodecError("the encoder's SPS describes a reference decoder; BPG has no place for it")
  if bits.flag():  # bitstream restriction
    bits.u(3)
    _skip(bits, "vvvvv")
