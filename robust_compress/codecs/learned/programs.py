"""The compiled parts of a network, as a codec calls them: numpy in, numpy out, one picture at a time.

    pixels ──analysis──▶ y ──hyper_analysis──▶ z ┄┄▶ ẑ ──features, foretell──▶ prior of y        ŷ ──synthesis──▶ pixels

What gives entropy parameters runs on the processor, wherever the rest runs: its numbers must be those of the other side
to the last bit, so that a blob of a machine with an accelerator decodes on one without, if the processors compute alike
(`arithmetic.py`). Large pictures are worked on by
tiles, one at a time.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.codecs.learned import arithmetic, tables, tiles, wavefront, weights
from robust_compress.codecs.learned.networks import factorized
from robust_compress.codecs.learned.networks.cheng2020 import GaussianMixture
from robust_compress.codecs.learned.networks.context import ContextModel
from robust_compress.codecs.learned.networks.gaussian import Gaussian, Mixture
from robust_compress.codecs.learned.networks.hyperprior import ScaleHyperprior
from robust_compress.codecs.learned.weights import Loaded

WINDOW = 64  # side of a tile, in positions of y for pictures and of z for y
_ONE_LARGE = threading.Lock()  # picture at a time is worked on by tiles: these keep all cores busy


@functools.lru_cache(maxsize=8)
def of_file(network: str, file: Path, time_ns: int) -> Programs:
  """The programs of a file of weights, read once as long as it was not written again. Raises WeightsError."""
  return Programs(weights.load(network, file))


class Programs:
  """Of one set of weights. Thread-safe.

  Attributes:
    loaded: the weights.
    has_hyperprior: whether there is a z.
    has_context: whether priors of y hang on the ŷ before.
    is_mixture: whether they are mixtures of Gaussians.
    stride: sides of pictures must be multiples.
    medians: float32[n], what symbols of the factorised prior are counted from.
    tables: of the factorised prior, a row a channel.
  """

  def __init__(self, loaded: Loaded) -> None:
    self._module = weights.module(loaded)
    self.has_hyperprior = isinstance(self._module, ScaleHyperprior)
    self.has_context = isinstance(self._module, ContextModel)
    self.is_mixture = isinstance(self._module, GaussianMixture)
    self.stride = self._module.stride
    self._here, self._host = jax.local_devices()[0], arithmetic.host()
    self._analysis, self._synthesis = jax.jit(self._analyse), jax.jit(self._synthesise)
    self._hyper_analysis, self._features = jax.jit(self._hyper_analyse), jax.jit(self._begin)
    self._compiling = threading.Lock()
    self.exchange(loaded)

  def exchange(self, loaded: Loaded) -> None:
    """Goes on with other weights of the same network and width, for which little is compiled again. Not thread-safe."""
    self.loaded, self._foretelling = loaded, {}  # the step has its weights in it
    bottleneck = loaded.variables["params"]["entropy_bottleneck"]
    self.medians = np.asarray(bottleneck["quantiles"][:, 0, 1], np.float32)
    self.tables = tables.from_pmf(*factorized.distributions(bottleneck))
    self._variables = {device: jax.device_put(loaded.variables, device) for device in {self._here, self._host}}

  def analysis(self, pixels: np.ndarray, level: float) -> np.ndarray:
    """uint8[h w 3], of sides that are multiples of `stride`, to y, float32[h/16 w/16 m]."""
    return self._by_tiles(self._analysis, pixels, level, self._here, (16, 1), self._module.reach)

  def hyper_analysis(self, y: np.ndarray, level: float) -> np.ndarray:
    """y to z, float32[h/64 w/64 n]."""
    return self._by_tiles(self._hyper_analysis, y, level, self._here, (4, 1), self._module.hyper_reach)

  def features(self, z_hat: np.ndarray, level: float) -> np.ndarray:
    """ẑ to what the prior of y is made of: float32[h/16 w/16 ·]. With context, it is `begun`."""
    return self._by_tiles(self._features, z_hat, level, self._host, (1, 4), self._module.hyper_reach)

  def prior(self, features: np.ndarray) -> Gaussian | Mixture:
    """The prior of all of y, of networks without context."""
    with jax.default_device(self._host):
      prior = self._module.apply({}, features, method="prior")
    return type(prior)(*map(np.asarray, prior))

  def foretell(self, begun: np.ndarray, neighbours: np.ndarray) -> Gaussian | Mixture:
    """The step of `wavefront.walk`: float32[p width], float32[p 12 m] to the prior at p positions."""
    size = len(begun)
    with self._compiling:
      if size not in self._foretelling:
        self._foretelling[size] = self._compiled_step(size)
    return self._foretelling[size](begun, neighbours)

  def synthesis(self, y_hat: np.ndarray, level: float) -> np.ndarray:
    """ŷ to uint8[h w 3]."""
    return self._by_tiles(self._synthesis, y_hat, level, self._here, (1, 16), self._module.reach)

  def _by_tiles(
    self, program: Callable, x: np.ndarray, level: float, device: Any, scales: tuple[int, int], reach: int
  ) -> np.ndarray:
    variables = self._variables[device]
    rows = np.full(1, level - 1, np.float32) if self.loaded.levels else None

    def run(x: np.ndarray) -> np.ndarray:
      try:
        return np.asarray(program(variables, x[None], rows))[0]
      except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
          raise MemoryError(f"no memory for {x.shape[1]}x{x.shape[0]} positions at once: {error}") from error
        raise

    is_large = max(x.shape[:2]) > WINDOW * scales[0]
    with _ONE_LARGE if is_large else contextlib.nullcontext():
      return tiles.by_tiles(run, x, scales, WINDOW, reach)

  def _analyse(self, variables: Any, pixels: jax.Array, level: jax.Array | None) -> jax.Array:
    return self._module.apply(variables, pixels.astype(jnp.float32) / 255, level, method="analysis")

  def _hyper_analyse(self, variables: Any, y: jax.Array, level: jax.Array | None) -> jax.Array:
    return self._module.apply(variables, y, level, method="hyper_analysis")

  def _begin(self, variables: Any, z_hat: jax.Array, level: jax.Array | None) -> jax.Array:
    features = self._module.apply(variables, z_hat, level, method="hyper_synthesis")
    return self._module.apply(variables, features, method="begun") if self.has_context else features

  def _synthesise(self, variables: Any, y_hat: jax.Array, level: jax.Array | None) -> jax.Array:
    picture = self._module.apply(variables, y_hat, level, method="synthesis")
    return jnp.rint(jnp.clip(picture, 0, 1) * 255).astype(jnp.uint8)

  def _compiled_step(self, size: int) -> Callable:
    """With its weights as constants: the compiler lays them out once, and a call has two arguments to look at."""
    used = {part: self.loaded.variables["params"][part] for part in ("context_prediction", "entropy_parameters")}
    sharding = jax.sharding.SingleDeviceSharding(self._host)
    width = len(used["entropy_parameters"]["layers_0"]["bias"])
    shapes = (size, width), (size, len(wavefront.NEIGHBOURS), self.loaded.m)
    step = functools.partial(self._module.apply, {"params": used}, method="prior_at")
    arguments = (jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in shapes)
    return jax.jit(step).lower(*arguments).compile()
