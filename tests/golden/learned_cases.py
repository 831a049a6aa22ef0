"""What the goldens of learned codecs are made of: narrow networks, and weights made alike from names and shapes.

numpy is the only import, beside `seeded`.
"""

from typing import NamedTuple

import numpy as np
from golden import seeded

SIZE = (128, 128)
LARGE = (448, 512)  # coded to some 5 kB, of which an entropy coder's own bytes are little
STEP, LARGE_STEP = 7, 23  # reconstructions are kept at every so many rows and columns: all phases of a block of 16


class Case(NamedTuple):
  """A published model, small enough for the test suite."""

  ours: str  # 'file:class' in codecs/learned/networks
  theirs: str  # class in compressai.models
  n: int
  m: int
  gains: dict[str, float]  # kernels are scaled, so that latents are many symbols wide and pictures lie about 0…1
  paints: str  # the last layer of the picture; its bias is about ½
  foretells: str = ""  # the layer that gives scales and means
  foretold: tuple[float, float] = (1.5, 1.5)  # about what its biases are, of scales and of means
  large: int = 0  # which large picture: one without a latent so near a half that another machine may round it otherwise

  @property
  def has_context(self) -> bool:
    return self.foretells.startswith("entropy_parameters")


_GOOGLE = {"g_a.6.weight": 5.0, "h_a.4.weight": 16.0, "g_s.6.weight": 0.2}
_CHENG = {"h_a.8.weight": 20.0}
_ANCHOR = {**_CHENG, "g_a.6.weight": 2.5, "g_s.7.0.weight": 0.03}
_ATTENTIVE = {**_CHENG, "g_a.7.weight": 1.5, "g_s.9.0.weight": 0.01}
_MBT, _CONTEXT = "JointAutoregressiveHierarchicalPriors", "entropy_parameters.4"
CASES = {
  "bmshj2018-factorized": Case("hyperprior:FactorizedPrior", "FactorizedPrior", 8, 12, _GOOGLE, "g_s.6"),
  "bmshj2018-hyperprior": Case(
    "hyperprior:ScaleHyperprior", "ScaleHyperprior", 8, 12, _GOOGLE, "g_s.6", "h_s.4", large=4
  ),
  "mbt2018-mean": Case("hyperprior:MeanScaleHyperprior", "MeanScaleHyperprior", 8, 12, _GOOGLE, "g_s.6", "h_s.4"),
  "mbt2018": Case("context:ContextModel", _MBT, 8, 12, _GOOGLE, "g_s.6", _CONTEXT, large=2),
  "cheng2020-anchor": Case("cheng2020:Anchor", "Cheng2020Anchor", 12, 12, _ANCHOR, "g_s.7.0", _CONTEXT, large=1),
  "cheng2020-attn": Case("cheng2020:Attentive", "Cheng2020Attention", 12, 12, _ATTENTIVE, "g_s.9.0", _CONTEXT, large=1),
}


def weight(case: Case, name: str, shape: tuple[int, ...]) -> np.ndarray:
  """A parameter of CompressAI's network, by its key; 'quantiles' follow from the others and are not made here."""
  drawn, kind = seeded.normal(name, shape), name.rsplit(".", 1)[-1]
  if kind == "beta":
    return 1 + np.float32(0.1) * np.abs(drawn)
  if kind == "gamma":
    size = np.float32(0.1 if name.startswith("g_s.") else 1.0)  # an inverse GDN multiplies what is large already
    return size * (np.float32(0.3) * np.eye(shape[0], dtype=np.float32) + np.float32(0.1) * np.abs(drawn))
  if ".matrices." in name:
    return np.float32(np.log(np.expm1(10**-0.2 / shape[1]))) + np.float32(0.2) * drawn
  if len(shape) == 4:
    return drawn * np.float32(case.gains.get(name, 1.0) * np.prod(shape[1:]) ** -0.5)
  mean = np.float32(0.5 if name == f"{case.paints}.bias" else 0)
  if name == f"{case.foretells}.bias":
    mean = np.repeat(np.float32(case.foretold), case.m)[: len(drawn)]
  return mean + np.float32(0.2) * drawn


def picture(size: tuple[int, int] = SIZE, name: str = "picture") -> np.ndarray:
  """float32[1 h w 3] in 0…1: waves, and noise of that name."""
  h, w = (np.arange(n, dtype=np.float32) for n in size)
  waves = np.sin(h[:, None] / 9 + w / 5)[..., None] * np.float32([0.3, 0.2, -0.3])
  return np.clip(0.5 + waves + np.float32(0.1) * seeded.normal(name, (*size, 3)), 0, 1)[None].astype(np.float32)


def foretelling(case: Case) -> Case:
  """With weights that foretell what comes, as trained ones do: for sizes to compare, few symbols may be unlikely."""
  return case._replace(foretold=(3.0, 0.0))


def large(case: Case) -> np.ndarray:
  """uint8[1 h w 3], what codecs are given."""
  return np.rint(255 * picture(LARGE, f"large {case.large}")).astype(np.uint8)
