"""The pictures of a learned codec beside JPEG's with as many bytes.

    learned point, coded ──sample──▶ bytes of each picture ──Job──▶ JPEG as near to them as it comes, coded/jpeg-<key>/
    original, learned, JPEG: the same pictures, in the order of their ids ──▶ Matched, with the PSNR of both

JPEG is that of the table with its defaults. Its pictures are coded, checked and kept as those of any other point.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from robust_compress import codecs, provenance, rate
from robust_compress.coding import Coding
from robust_compress.data.cache import CodedSource
from robust_compress.data.order import hash_of
from robust_compress.data.sources import PartSource
from robust_compress.inspect import quality
from robust_compress.job import Job
from robust_compress.specs import key_of
from robust_compress.types import Point, Source

SAMPLE = 300  # pictures of a test set that are looked at, where it has more


class Matched(NamedTuple):
  """The same pictures three times, in the order of their ids, and how far the coded ones are from the original."""

  original: Source
  learned: Source
  jpeg: Source
  n_test: int  # pictures that they were taken from
  columns: dict[str, np.ndarray]  # of `report.against_jpeg.Comparison`, without what a model says


def reconstructs(point: Point) -> bool:
  """Whether a point's codec is a learned one, whose encoder knows what the decoder will return."""
  return point.codec != "none" and getattr(codecs.load_codec(point), "reconstructs", False)


def fingerprint() -> str:
  """Of what JPEG's pictures and the PSNR depend on, beside the learned codec's."""
  jpeg = codecs.load_codec("jpeg").fingerprint()
  return f"{jpeg}, search {rate.SEARCH_VERSION}, at most {SAMPLE} pictures, psnr {quality.VERSION}"


def match(coding: Coding, data: str, point: Point) -> Matched:
  """A sample of the pictures that are coded at a learned point, and JPEG with as many bytes for each.

  Pictures that JPEG cannot hold, or that can no longer be read, are left out under on_bad='skip'.

  Raises:
    StoreError: nothing is coded at the point.
    DataError, CodecError: a picture that cannot be read or coded, under on_bad='error'.
  """
  pictures, jpeg = coding.pictures, codecs.load_codec("jpeg")
  originals, learned = pictures.source(data), pictures.source(data, point)
  where = {learned.id(index): index for index in range(len(learned))}
  chosen = np.array([where[id] for id in sample(where)], np.int64)
  asked = PartSource(originals, tuple(learned.index["position"][chosen].tolist()))
  bpps = 8.0 * learned.index["n_bytes"][chosen] / learned.index["n_pixels"][chosen]
  folder = pictures.workdir / "coded" / f"jpeg-{key_of([pictures.folder(data, point).name, 'equal bytes'])}"
  coding.run(Job(asked, jpeg, None, folder, f"jpeg at the bytes of {point}", coding.config.on_bad, bpp=bpps))
  coded = CodedSource(asked, folder, jpeg)
  chosen = chosen[coded.index["position"]]  # without those that JPEG has skipped
  original = PartSource(originals, tuple(learned.index["position"][chosen].tolist()))
  decoded = PartSource(learned, tuple(chosen.tolist()))
  columns = {
    "id": np.array([coded.id(i) for i in range(len(coded))], str),
    "n_pixels": learned.index["n_pixels"][chosen],
    "n_bytes": learned.index["n_bytes"][chosen],
    "n_bytes_jpeg": np.array(coded.index["n_bytes"]),
    "level_jpeg": coded.levels,
  }
  psnr, psnr_jpeg = _psnr(original, decoded, coded)
  return Matched(original, decoded, coded, len(learned), {**columns, "psnr": psnr, "psnr_jpeg": psnr_jpeg})


def sample(ids: Iterable[str]) -> list[str]:
  """Up to SAMPLE of the ids, in order. They are drawn by their hashes, so that one more or less is no other sample."""
  return sorted(sorted(ids, key=lambda id: hash_of("equal bytes", id))[:SAMPLE])


def _psnr(original: Source, *decoded: Source) -> np.ndarray:
  """float64[k n]: of k decoded sources against the original, in dB."""

  def of_one(index: int) -> list[float]:
    clip = original.picture(index).clip
    return [quality.psnr(clip, source.picture(index).clip) for source in decoded]

  with ThreadPoolExecutor(provenance.n_cores(), "psnr") as pool:
    return np.array(list(pool.map(of_one, range(len(original)))), np.float64).reshape(-1, len(decoded)).T
