"""PSNR and MS-SSIM: equal to the reference implementation, and what they do at their edges."""

import json
import math
import pathlib

import numpy as np
import pytest
from fakes import photo
from golden.quality_cases import N_CASES, pair

from robust_compress.inspect import quality
from robust_compress.types import DataError

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("index", range(N_CASES))
def test_equal_to_the_reference(index):
  expected = json.loads((GOLDEN / "quality.json").read_text())[index]
  a, b = pair(index)
  assert quality.psnr(a, b) == pytest.approx(expected["psnr"], abs=1e-9)
  assert quality.ms_ssim(a, b) == pytest.approx(expected["ms_ssim"], abs=1e-9)


def test_equal_clips():
  clip = photo(170, 180, n_frames=2)
  assert quality.psnr(clip, clip) == math.inf
  assert quality.ms_ssim(clip, clip) == pytest.approx(1)
  assert quality.decibels(1.0) == math.inf
  assert quality.decibels(0.99) == pytest.approx(20)


def test_a_clip_is_all_its_frames():
  a, b = photo(170, 180, n_frames=2), photo(170, 180, seed=1, n_frames=2)
  frames = [(a[t : t + 1], b[t : t + 1]) for t in range(2)]
  assert quality.mse(a, b) == pytest.approx(np.mean([quality.mse(*frame) for frame in frames]))
  assert quality.ms_ssim(a, b) == pytest.approx(np.mean([quality.ms_ssim(*frame) for frame in frames]))


def test_a_large_difference_does_not_overflow():
  black, white = np.zeros((1, 40, 30, 3), np.uint8), np.full((1, 40, 30, 3), 255, np.uint8)
  assert quality.psnr(black, white) == quality.psnr(white, black) == 0


def test_stripes_make_no_difference(monkeypatch):
  a, b = pair(3)
  whole = quality.ms_ssim(a, b)
  monkeypatch.setattr(quality, "_STRIPE", 17)
  assert quality.ms_ssim(a, b) == pytest.approx(whole, rel=1e-12)


def test_small_pictures_have_no_ms_ssim():
  side = quality.MIN_SIDE
  assert math.isnan(quality.ms_ssim(photo(side - 1, 300), photo(side - 1, 300)))
  assert not math.isnan(quality.ms_ssim(photo(side, 300), photo(side, 300)))


@pytest.mark.parametrize("other", [photo(48, 65), photo(48, 64).astype(float), photo(48, 64)[0]])
def test_what_cannot_be_compared_is_an_error(other):
  for measure in (quality.psnr, quality.ms_ssim):
    with pytest.raises(DataError, match="cannot compare"):
      measure(photo(48, 64), other)
