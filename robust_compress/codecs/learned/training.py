"""Networks of learned codecs as `train` and `evaluate` take models.

    uint8[b h w 3] ──/255──▶ network, quantised by noise ──▶ x_hat, bits, lambda, balance, auxiliary ──▶ tasks/codec.py
                level of each picture ─▲ drawn, where there are gain units

With gain units a level is drawn for each picture, evenly between the first and the last, and λ is interpolated as the
gain is: geometrically. Losses grow about as √λ along a rate–distortion curve, so each picture counts by λ^-½: all
rates then learn alike.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import specs
from robust_compress.codecs.learned import picture, weights
from robust_compress.codecs.learned.networks import LAMBDAS, METRICS, keys, load_network
from robust_compress.codecs.learned.networks.gaussian import MODES
from robust_compress.codecs.learned.programs import Programs
from robust_compress.types import Arrays, InputSpec, ModelSpec, SpecError, Weights

SIDES = {"mse": 128, "ms-ssim": 256}  # of training crops
LEAST_SIDES = {"mse": 64, "ms-ssim": 192}  # MS-SSIM needs five scales
QUANTILES = ("entropy_bottleneck/quantiles", 1e-3)  # which only the auxiliary loss moves


@dataclass(frozen=True)
class Trainee(ModelSpec):
  """A network that is trained at one λ, or with gain units over a ladder of them."""

  network: str = ""  # its name without options
  lambdas: tuple[float, ...] = ()  # of the levels
  mode: str = "noise"  # of quantisation

  def init(self, rng: Any) -> Any:
    """Random variables."""
    image = jnp.zeros((1, *self.input.size, 3), jnp.float32)
    return self.module().init(rng, image, "round", self.as_level(jnp.zeros(1, jnp.float32)))

  def apply(self, variables: Any, batch: Arrays, *, train: bool = False, rngs: Any = None) -> tuple[Any, Any]:
    """Outputs as the head of this file has them; when not training, rounded, and at the middle level."""
    module, image = self.module(), jnp.asarray(batch["image"]).astype(jnp.float32) / 255
    last = len(self.lambdas) - 1
    if train:
      noise, draw = jax.random.split(rngs["dropout"])
      level = jax.random.uniform(draw, image.shape[:1], jnp.float32, 0, last)
      coding = module.apply(variables, image, self.mode, self.as_level(level), rngs={"noise": noise})
    else:
      level = jnp.full(image.shape[:1], last / 2, jnp.float32)
      coding = module.apply(variables, image, "round", self.as_level(level))
    log_lambda = jnp.interp(level, jnp.arange(last + 1, dtype=jnp.float32), jnp.log(jnp.asarray(self.lambdas)))
    return {
      "x_hat": coding.x_hat,
      "bits": coding.bits(),
      "lambda": jnp.exp(log_lambda),
      "balance": jnp.exp(-0.5 * (log_lambda - np.float32(np.log(self.lambdas).mean()))),
      "auxiliary": module.apply(variables, method="auxiliary_loss"),
    }, {}

  def probe(self, frames: Sequence[np.ndarray]) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """variables -> what real blobs of some pictures cost: uint8[1 h w 3] each, at the first, middle and last level.

    'coded_bpp' and 'coded_psnr' are means over pictures and levels; 'coded_over_estimated' says how many bits were
    coded, headers and all, for one that the network estimates.
    """
    return functools.partial(_coded, self, frames)

  def as_level(self, level: jax.Array) -> jax.Array | None:
    """The levels of a batch, where the network takes any."""
    return level if len(self.lambdas) > 1 else None


def trainee(
  network: str,
  *,
  metric: str = "mse",
  quality: int | None = None,
  n: int | None = None,
  m: int | None = None,
  levels: int = 0,
  mode: str = "noise",
  side: int | None = None,
) -> Trainee:
  """A network by its name, at a published width or any other.

  Args:
    metric: what the task weighs: 'mse' or 'ms-ssim'.
    quality: as published, from 1: it gives the width and λ.
    n, m: the width in place of a published one.
    levels: of gain units; λ then runs over the published qualities 1 to `levels`.
    mode: of quantisation, 'noise' or 'ste'.
    side: of the crops trained on, a multiple of 64.

  Raises:
    SpecError: an unknown network, metric or mode; neither quality nor levels, or both; n without m; a number that
      cannot be.
  """
  row, known = load_network(network), _known_lambdas(metric, mode)
  given = {"quality": quality, "n": n, "m": m, "levels": levels or None, "side": side}
  given |= {"metric": metric if metric != "mse" else None, "mode": mode if mode != "noise" else None}
  options = {key: value for key, value in given.items() if value is not None}
  _check_numbers(network, options, len(known if n is not None else row.widths), len(known))
  lambdas = known[:levels] if levels else known[quality - 1 : quality]
  sizes = {"n": n, "m": m} if n is not None else dict(zip("nm", row.widths[quality - 1]))
  side = side or SIDES[metric]
  if side % 64 or side < LEAST_SIDES[metric]:
    raise SpecError(f"{network}(side={side}): expected a multiple of 64 from {LEAST_SIDES[metric]} on for {metric}")
  model = Trainee(
    name=specs.format_call(network, tuple(options.items())),
    task="codec" if metric == "mse" else f"codec-{metric}",
    build=functools.partial(_build, network, levels=levels, **sizes),
    input=InputSpec((side, side), None, mean=(0, 0, 0), std=(1, 1, 1)),
    base=Weights("random"),
    rules=keys.RULES,
    own_rates=(QUANTILES,),
    network=network,
    lambdas=lambdas,
    mode=mode,
  )
  shapes = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
  return dataclasses.replace(model, n_params=sum(math.prod(shape.shape) for shape in shapes))


def _known_lambdas(metric: str, mode: str) -> tuple[float, ...]:
  for kind, name, known in (("metric", metric, METRICS), ("mode of quantisation", mode, MODES)):
    if name not in known:
      raise specs.nearest(kind, str(name), known)
  return LAMBDAS[metric]


def _check_numbers(network: str, options: Mapping[str, Any], n_qualities: int, n_lambdas: int) -> None:
  """Raises SpecError for options of `trainee` that do not go together or are out of range."""
  numbers = {key: value for key, value in options.items() if key not in ("metric", "mode")}
  for key, value in numbers.items():
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
      raise SpecError(f"{network}({key}={value}): expected a whole number from 1")
  has_quality, has_levels, has_n, has_m = (key in numbers for key in ("quality", "levels", "n", "m"))
  if has_quality == has_levels or has_n != has_m or not (has_quality or has_n):
    raise SpecError(f"{network}: expected a quality, or levels with n and m, as in {network}(levels=7,n=64,m=96)")
  if numbers.get("quality", 1) > n_qualities:
    raise SpecError(f"{network}(quality={numbers['quality']}): quality runs from 1 to {n_qualities}")
  if not 2 <= numbers.get("levels", 2) <= n_lambdas:
    raise SpecError(f"{network}(levels={numbers['levels']}): expected 2 to {n_lambdas}, the qualities that have a λ")


def _coded(model: Trainee, clips: Sequence[np.ndarray], variables: Mapping[str, Any]) -> dict[str, float]:
  """See `Trainee.probe`."""
  programs = Programs(weights.from_variables(model.network, variables))
  module, found = model.module(), []
  bits = jax.jit(lambda variables, x, level: module.apply(variables, x, "round", model.as_level(level)).bits())
  for level, clip in itertools.product(sorted({0, len(model.lambdas) // 2, len(model.lambdas) - 1}), clips):
    blob, decoded = picture.encode(programs, clip[0], level + 1, "constriction", reconstruct=True)
    error = np.square(clip[0].astype(np.float64) - decoded).mean() / 255**2
    estimated = float(bits(variables, _padded(clip, programs.stride), np.full(1, level, np.float32))[0])
    found.append((8 * len(blob) / decoded[..., 0].size, -10 * np.log10(max(error, 1e-10)), 8 * len(blob), estimated))
  bpp, psnr, n_coded, n_estimated = (float(np.sum(column)) for column in zip(*found))
  n = len(found)
  return {"coded_bpp": bpp / n, "coded_psnr": psnr / n, "coded_over_estimated": n_coded / n_estimated}


def _padded(clip: np.ndarray, stride: int) -> np.ndarray:
  """uint8[1 h w 3] as a network takes it, padded as the codec pads."""
  padding = [(0, -side % stride) for side in clip.shape[1:3]]
  return np.pad(clip, ((0, 0), *padding, (0, 0)), mode="edge").astype(np.float32) / 255


def _build(network: str, *, dtype: Any = "float32", batch_norm: Any = None, dropout: Any = None, **widths: int) -> Any:
  """No network here has batch norm or dropout."""
  return load_network(network).build(dtype=jnp.dtype(dtype), **widths)
