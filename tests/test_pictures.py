"""Where a study's pictures lie, and what is kept of them."""

import pytest

from robust_compress import compress, pictures, settings, specs
from robust_compress.data import shards
from robust_compress.pictures import Pictures

DATA, POINT = "scenes(size=32,n=4,input=asis):test", specs.parse_point("fakes:Fallible@60")


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_coded_decides_whether_pixels_are_kept(tmp_path, monkeypatch, complete):
  """A workdir on a smaller disk, or on a larger one, goes on as it began."""
  here = Pictures(settings.default_config(), tmp_path)
  assert here.keeps_pixels(DATA, POINT)
  compress.write_shards(here.job(DATA, POINT), progress=False)
  if complete:
    compress.finish(here.job(DATA, POINT))
  monkeypatch.setattr(pictures, "DISK_SHARE", 0)
  assert here.keeps_pixels(DATA, POINT)
  assert not here.keeps_pixels(DATA, specs.parse_point("fakes:Fallible@30"))
  compress.finish(here.job(DATA, POINT))
  assert shards.read_manifest(here.folder(DATA, POINT)).plan.keep_pixels
