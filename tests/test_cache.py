"""Reading coded pictures back: the same as coding on the fly, in order, in any number of threads, or a clear error."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robust_compress.codecs import load_codec
from robust_compress.compress import compress
from robust_compress.data import cache, shards
from robust_compress.data.cache import CodedSource
from robust_compress.types import Coded, StoreError
from tests.fakes import MemorySource, ShiftCodec, photo


@pytest.fixture
def source():
  return MemorySource([photo(24 + i % 3, 32, seed=i, n_frames=1 + i % 2) for i in range(23)])


def coded_source(source, directory, codec=None, level=20, **options):
  codec = codec or load_codec("jpeg")
  compress(source, codec, level, directory, shard_size=5, progress=False, **options)
  return CodedSource(source, directory, codec)


def test_cached_equals_on_the_fly(source, tmp_path):
  codec, cached = load_codec("webp"), coded_source(source, tmp_path, load_codec("webp"))
  assert len(cached) == len(source)
  assert cached.classes == source.classes
  for i in range(len(source)):
    clip = source.picture(i).clip
    [coded] = codec.encode([clip], [20])
    assert cached.blob(i) == coded.blob
    picture = cached.picture(i)
    assert np.array_equal(picture.clip, codec.decode([coded.blob])[0])
    assert picture.n_bytes == len(coded.blob) == cached.index["n_bytes"][i]
    assert picture.n_pixels == clip[..., 0].size == cached.index["n_pixels"][i]
    assert cached.id(i) == source.id(i)
    assert cached.target(i) == source.target(i)


def test_kept_pixels_are_the_codecs_own_and_spare_the_decoder(source, tmp_path, monkeypatch):
  codec = ShiftCodec()
  cached = coded_source(source, tmp_path / "pixels", codec, 2, keep_pixels=True)
  decode, decoded = codec.decode, []
  monkeypatch.setattr(codec, "decode", lambda blobs: decoded.extend(blobs) or decode(blobs))
  for i in range(len(source)):
    assert np.array_equal(cached.picture(i).clip, source.picture(i).clip & 0xC0)
    assert cached.picture(i).n_bytes == len(cached.blob(i))
  assert len(decoded) == 1, "the one that proves the others, once"
  plain = coded_source(source, tmp_path / "plain", ShiftCodec(), 2)
  assert all(np.array_equal(plain.picture(i).clip, cached.picture(i).clip) for i in range(len(source)))
  assert [plain.blob(i) for i in range(23)] == [cached.blob(i) for i in range(23)]
  jpeg = coded_source(source, tmp_path / "jpeg", keep_pixels=True)  # a codec that hands out no pixels while it encodes
  assert all(np.array_equal(jpeg.picture(i).clip, jpeg.codec.decode([jpeg.blob(i)])[0]) for i in range(23))


def test_skipped_pictures_leave_no_gap(tmp_path):
  source = MemorySource([photo(seed=i) for i in range(12)], bad={0, 6, 11})
  cached = coded_source(source, tmp_path, on_bad="skip")
  assert [cached.id(i) for i in range(len(cached))] == [source.id(i) for i in range(12) if i not in source.bad]
  assert np.array_equal(cached.index["position"], [1, 2, 3, 4, 5, 7, 8, 9, 10])
  assert [cached.find(i) for i in range(13)] == [None, 0, 1, 2, 3, 4, None, 5, 6, 7, 8, None, None]
  assert cached.manifest.skipped[0] == ("picture/0000.png", "picture/0000.png: truncated")


@pytest.mark.parametrize("max_open", [0, 2, 256])
def test_threads_read_the_same(source, tmp_path, max_open, monkeypatch):
  monkeypatch.setattr(cache, "_MAX_OPEN", max_open)
  cached = coded_source(source, tmp_path)
  order = np.random.default_rng(0).integers(0, len(cached), 400).tolist()
  with ThreadPoolExecutor(8) as pool:
    blobs = list(pool.map(cached.blob, order))
  assert blobs == [cached.blob(i) for i in order]


@pytest.mark.parametrize("index", [23, 1000, -24])
def test_an_index_outside_is_an_index_error(source, tmp_path, index):
  with pytest.raises(IndexError):
    coded_source(source, tmp_path).picture(index)


def test_fingerprint_follows_the_bytes(source, tmp_path):
  a = coded_source(source, tmp_path / "a").fingerprint()
  assert a == coded_source(source, tmp_path / "b").fingerprint()
  assert a != coded_source(source, tmp_path / "c", level=30).fingerprint()
  source.clips[3] = source.clips[3] ^ 255
  assert a != coded_source(source, tmp_path / "d").fingerprint()


def test_shards_are_zip_files_of_viewable_pictures(source, tmp_path):
  source.ids[1] = "../../etc/pass wd\x00é.png"
  cached = coded_source(source, tmp_path)
  with zipfile.ZipFile(tmp_path / "shard-00000-of-00005.zip") as archive:
    names = archive.namelist()
    assert names[:2] == ["00000000_picture_0000.jpeg", "00000001_.._.._etc_pass_wd__.jpeg"]
    assert names[-2:] == ["index.npy", "shard.json"]
    assert [archive.read(name) for name in names[:5]] == [cached.blob(i) for i in range(5)]
    assert json.loads(archive.read("shard.json"))["ids"] == source.ids[:5]


def test_every_flipped_byte_of_a_blob_is_noticed(source, tmp_path):
  cached = coded_source(source, tmp_path)
  path = tmp_path / "shard-00001-of-00005.zip"
  whole, entry = path.read_bytes(), cached.index[7]
  for offset in range(entry["offset"], entry["offset"] + entry["n_bytes"], 37):
    with open(path, "r+b") as file:
      file.seek(offset)
      file.write(bytes([whole[offset] ^ 1]))
    message = r"shard-00001-of-00005.zip is damaged at picture 'picture/0007.png'; delete the shard and run compress"
    with pytest.raises(StoreError, match=message):
      cached.picture(7)
    path.write_bytes(whole)
  assert cached.blob(8)
  path.write_bytes(whole[: entry["offset"] + 3])
  with pytest.raises(StoreError, match="damaged at picture"):
    CodedSource(source, tmp_path, cached.codec).picture(7)
  path.unlink()
  with pytest.raises(StoreError, match="is missing; run compress again"):
    CodedSource(source, tmp_path, cached.codec).picture(7)


def test_what_is_not_complete_or_is_another_thing_is_refused(source, tmp_path):
  codec = load_codec("jpeg")
  with pytest.raises(StoreError, match="no complete set of coded pictures; run compress first"):
    CodedSource(source, tmp_path, codec)
  coded_source(source, tmp_path)
  with pytest.raises(StoreError, match=r"codec is 'jpeg\(.*subsampling=420\).*asked for 'jpeg\(.*subsampling=444\)"):
    CodedSource(source, tmp_path, load_codec("jpeg", subsampling=444))
  with pytest.raises(StoreError, match=r"source is '.*', asked for '.*'; n is 23, asked for 22"):
    CodedSource(MemorySource(source.clips[:22]), tmp_path, codec)


@pytest.mark.parametrize("name", ["index.npy", "manifest.json"])
def test_a_damaged_index_or_manifest_is_refused_and_made_again(source, tmp_path, name):
  codec = coded_source(source, tmp_path).codec
  whole = (tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(whole[:-9])
  with pytest.raises(StoreError, match=r"damaged.*delete .* run compress again"):
    CodedSource(source, tmp_path, codec)
  (tmp_path / "manifest.json").unlink()
  coded_source(source, tmp_path)
  assert (tmp_path / name).read_bytes() == whole


def test_an_empty_source_is_an_empty_set(tmp_path):
  cached = coded_source(MemorySource([]), tmp_path)
  assert len(cached) == 0
  assert cached.manifest.n_bytes == 0


def test_a_joined_index_is_what_numpy_saves(tmp_path):
  parts = [np.zeros(n, shards.ENTRY) for n in (3, 0, 250)]
  for k, part in enumerate(parts):
    part["position"] = k + np.arange(len(part))
  with open(tmp_path / "joined.npy", "wb") as file:
    shards.write_joined(file, shards.ENTRY, iter(parts))
  np.save(tmp_path / "whole.npy", np.concatenate(parts))
  assert (tmp_path / "joined.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


class Mistaken(ShiftCodec):
  """Gives other pixels when it codes than when it decodes."""

  def encode(self, clips, levels):
    return [Coded(coded.blob, coded.pixels ^ 1) for coded in super().encode(clips, levels)]


def test_one_in_a_hundred_kept_pictures_is_decoded_to_prove_the_others(tmp_path):
  """Which they are is a matter of their ids; a blob that decodes to something else is told."""
  ids = [f"{number}.png" for number in range(20_000)]
  assert sum(map(cache.is_proven, ids)) == pytest.approx(200, abs=50)
  proven = next(filter(cache.is_proven, ids))
  others = [name for name in ids[:5] if name != proven]
  source = MemorySource([photo(8, 8, seed) for seed in range(5)], [*others[:4], proven])
  for codec, folder in ((ShiftCodec(), tmp_path / "right"), (Mistaken(), tmp_path / "wrong")):
    compress(source, codec, 4, folder, keep_pixels=True, progress=False)
  right, wrong = (CodedSource(source, tmp_path / name, ShiftCodec()) for name in ("right", "wrong"))
  for index in range(4):
    assert not np.array_equal(right.picture(index).clip, wrong.picture(index).clip)
  right.picture(4)
  with pytest.raises(StoreError, match=f"picture '{proven}' does not decode to the pixels that stand beside it"):
    wrong.picture(4)


def test_of_a_small_set_one_picture_is_proven_whatever_chance_says(tmp_path):
  ids = [name for name in map("{}.png".format, range(40)) if not cache.is_proven(name)]
  source = MemorySource([photo(8, 8, seed) for seed in range(len(ids))], ids, bad={3})
  compress(source, Mistaken(), 4, tmp_path, keep_pixels=True, progress=False, on_bad="skip")
  coded, refused = CodedSource(source, tmp_path, ShiftCodec()), []
  for index in range(len(coded)):
    try:
      coded.picture(index)
    except StoreError:
      refused.append(coded.id(index))
  assert refused == [min((name for name in ids if name != ids[3]), key=cache._hash_of)]
