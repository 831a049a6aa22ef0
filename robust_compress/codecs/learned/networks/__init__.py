"""The networks of learned codecs: which there are, how wide, and which files hold published weights of them.

    load_network('mbt2018-mean').build(quality=3) ──▶ a Flax module      convert by `keys.READING`

Qualities run from 1, the lowest rate. Names, widths and files are those of CompressAI 1.2.8, which has no
cheng2020-gmm: for it, the widths of cheng2020-attn. The files of the architectures are imported when a network is
built, so that listing them needs no jax.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robust_compress import specs
from robust_compress.types import LevelError

METRICS = ("mse", "ms-ssim")
FILES_AT = "https://compressai.s3.amazonaws.com/models/v1/"
LAMBDAS: dict[str, tuple[float, ...]] = {  # by quality; the loss is λ·255²·MSE + bpp, or λ·(1 − MS-SSIM) + bpp
  "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
  "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}


@dataclass(frozen=True)
class Network:
  """A row of the table."""

  name: str
  builder: str  # 'file:class' in this folder
  widths: tuple[tuple[int, int], ...]  # (n, m) by quality: channels of the transforms, and of y
  files: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # metric -> (stem, first digits of SHA-256s)

  def build(self, quality: int | None = None, **options: Any) -> Any:
    """The network, a Flax module, at the published width of a quality or at n and m among the options.

    Raises LevelError for a quality that was not published.
    """
    file, attribute = self.builder.split(":")
    module = importlib.import_module(f"{__name__}.{file}")
    if quality is not None:
      n, m = self.widths[self._checked(quality) - 1]
      options = {"n": n, "m": m, **options}
    return getattr(module, attribute)(**options)

  def file(self, quality: int, metric: str = "mse") -> str:
    """The name of the published file, the start of whose SHA-256 it ends in. It lies under FILES_AT.

    Raises LevelError or SpecError for a quality or metric that was not published.
    """
    if metric not in self.files:
      raise specs.nearest(f"metric of {self.name}", metric, self.files)
    stem, hashes = self.files[metric]
    return f"{stem}-{quality}-{hashes.split()[self._checked(quality) - 1]}.pth.tar"

  def _checked(self, quality: int) -> int:
    if quality not in range(1, len(self.widths) + 1):
      raise LevelError(f"{self.name}: quality runs from 1 to {len(self.widths)}, not {quality}")
    return int(quality)


def _widths(narrow: tuple[int, int], n_narrow: int, wide: tuple[int, int], n_wide: int) -> tuple[tuple[int, int], ...]:
  return (narrow,) * n_narrow + (wide,) * n_wide


_GOOGLE, _CHENG = _widths((128, 192), 5, (192, 320), 3), _widths((128, 128), 3, (192, 192), 3)

_ROWS = (
  Network(
    "bmshj2018-factorized",
    "hyperprior:FactorizedPrior",
    _GOOGLE,
    {
      "mse": (
        "bmshj2018-factorized-prior",
        "446d5c7f 87279a02 5c6f152b 1ed4405a 866ba797 9b02ea3a 6dfd6734 5232faa3",
      ),
      "ms-ssim": (
        "bmshj2018-factorized-ms-ssim",
        "9781d705 4a584386 5352f123 4f91b847 b3a88897 ee028763 8c265a29 8811bd14",
      ),
    },
  ),
  Network(
    "bmshj2018-hyperprior",
    "hyperprior:ScaleHyperprior",
    _GOOGLE,
    {
      "mse": ("bmshj2018-hyperprior", "7eb97409 93677231 6d87be32 de1b779c f8b614e1 1ab9c41e 3804dcbd a583f0cf"),
      "ms-ssim": (
        "bmshj2018-hyperprior-ms-ssim",
        "5cf249be 1ff60d1f 92dd7878 4377354e c34afc8d 3a6d8229 8747d3bc cc15b5f3",
      ),
    },
  ),
  Network(
    "mbt2018-mean",
    "hyperprior:MeanScaleHyperprior",
    _widths((128, 192), 4, (192, 320), 4),
    {
      "mse": ("mbt2018-mean", "e522738d e54a039d 723404a8 6dba02a3 d504e8eb a19628ab d5d441d1 8089ae3e"),
      "ms-ssim": ("mbt2018-mean-ms-ssim", "5bf9c0b6 e2a1bf3f 640ce819 12626c13 1be7f059 b83bf379 ddf9644c 0cc7b94f"),
    },
  ),
  Network(
    "mbt2018",
    "context:ContextModel",
    _widths((192, 192), 4, (192, 320), 4),
    {
      "mse": ("mbt2018", "3f36cd77 43b70cdd 22901978 456e2af9 b4a046dd 7052e5ea 8ba2bf82 dd0097aa"),
      "ms-ssim": ("mbt2018-ms-ssim", "2878436b c41cb208 d0dd64e8 a120e037 9b30e3b7 f8b3626f 16e6ff50 0cb49d43"),
    },
  ),
  Network(
    "cheng2020-anchor",
    "cheng2020:Anchor",
    _CHENG,
    {
      "mse": ("cheng2020-anchor", "dad2ebff a29008eb e49be189 98b0b468 23852949 4c052b1a"),
      "ms-ssim": ("cheng2020_anchor-ms-ssim", "20f521db c7ff5812 c23e22d5 0e658304 c0a95e77 f2dc1913"),
    },
  ),
  Network(
    "cheng2020-attn",
    "cheng2020:Attentive",
    _CHENG,
    {
      "mse": ("cheng2020_attn-mse", "465f2b64 e0805385 2d07bbdf f7b0ccf2 26c8920e 730501f2"),
      "ms-ssim": ("cheng2020_attn-ms-ssim", "c5381d91 5dad201d 5c9be841 8b2f647e 5ca1f34c 216423ec"),
    },
  ),
  Network("cheng2020-gmm", "cheng2020:GaussianMixture", _CHENG),
)

NETWORKS: dict[str, Network] = {row.name: row for row in _ROWS}


def load_network(name: str) -> Network:
  """A row of the table. Raises SpecError for an unknown name, with the nearest."""
  if name not in NETWORKS:
    raise specs.nearest("network", name, NETWORKS)
  return NETWORKS[name]
