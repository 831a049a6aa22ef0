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
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress import specs
from robust_compress.codecs.learned.networks import LAMBDAS, METRICS, keys, load_network
from robust_compress.codecs.learned.networks.gaussian import MODES
from robust_compress.codecs.learned.probe import Probe
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

  def probe(self, clips: Sequence[np.ndarray]) -> Probe:
    """What measures real blobs of some pictures, uint8[1 h w 3] each, while the network is trained."""
    return Probe(self, clips)

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
    n, m: the width in place of a published one, 2 or more.
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
    reading=keys.READING,
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
    least = 2 if key in ("n", "m") else 1  # attention halves a width
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
      raise SpecError(f"{network}({key}={value}): expected a whole number from {least}")
  has_quality, has_levels, has_n, has_m = (key in numbers for key in ("quality", "levels", "n", "m"))
  if has_quality == has_levels or has_n != has_m or not (has_quality or has_n):
    raise SpecError(f"{network}: expected a quality, or levels with n and m, as in {network}(levels=7,n=64,m=96)")
  if numbers.get("quality", 1) > n_qualities:
    raise SpecError(f"{network}(quality={numbers['quality']}): quality runs from 1 to {n_qualities}")
  if not 2 <= numbers.get("levels", 2) <= n_lambdas:
    raise SpecError(f"{network}(levels={numbers['levels']}): expected 2 to {n_lambdas}, the qualities that have a λ")


def _build(network: str, *, dtype: Any = "float32", batch_norm: Any = None, dropout: Any = None, **widths: int) -> Any:
  """No network here has batch norm or dropout."""
  return load_network(network).build(dtype=jnp.dtype(dtype), **widths)
