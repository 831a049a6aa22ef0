"""Clips by codecs of single pictures: whatever the files say, the clip has the size that was declared and allowed."""

from types import SimpleNamespace

import numpy as np
import pytest

from robust_compress.codecs import frames
from robust_compress.types import CodecError


def raw(frame):
  """A codec of one picture: height and width as bytes, then the samples."""
  return bytes(frame.shape[:2]) + frame.tobytes()


def decode_raw(header):
  return np.frombuffer(header.file[2:], np.uint8).reshape(header.height, header.width, 3)


def open_raw(file):
  return SimpleNamespace(height=file[0], width=file[1], file=file)


def clip(n_frames, height=3, width=4):
  return np.random.default_rng(0).integers(0, 256, (n_frames, height, width, 3), np.uint8)


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_frames_come_back(n_frames):
  blob = frames.encode_frames(clip(n_frames), raw)
  assert np.array_equal(frames.decode_frames(blob, "raw", decode_raw, open_raw), clip(n_frames))


def test_sizes_are_checked_before_anything_is_decoded(monkeypatch):
  blob, decoded = frames.encode_frames(clip(5), raw), []
  monkeypatch.setattr(frames, "MAX_PIXELS", 5 * 3 * 4 - 1)
  with pytest.raises(CodecError, match=r"raw: \[5, 3, 4, 3\] is over the limit of 59 pixels"):
    frames.decode_frames(blob, "raw", decoded.append, open_raw)
  assert decoded == []


@pytest.mark.parametrize("n_frames", [1, 2])
def test_a_file_that_changes_its_size_while_it_is_decoded_is_damaged(n_frames):
  """As pictures do whose container and stream declare different sizes."""

  def decode(header):
    header.height = 2
    return np.zeros((2, 4, 3), np.uint8)

  blob = frames.encode_frames(clip(n_frames), raw)
  with pytest.raises(CodecError, match=r"raw: decodes to \[2, 4, 3\] where \[3, 4, 3\] is declared"):
    frames.decode_frames(blob, "raw", decode, open_raw)


@pytest.mark.parametrize("shape", [(0, 3, 4), (1, 0, 4), (1, 3, -1)])
def test_an_empty_size_is_refused(shape):
  with pytest.raises(CodecError, match="holds no pixel"):
    frames.check_size("raw", shape)
