"""A small network with batch norm and dropout, and random pictures for it: what the loops are tested on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.types import InputSpec, ModelSpec, Weights

N_CLASSES = 7
SIZE = 16


class TinyNet(nn.Module):
  dtype: str = "float32"
  batch_norm: str = "sync"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(8, (3, 3), strides=2, use_bias=False, dtype=self.dtype, name="conv")(x)
    norm = nn.BatchNorm(
      use_running_average=not train or self.batch_norm == "frozen",
      axis_name="batch" if train and self.batch_norm == "sync" else None,
      dtype=self.dtype,
      name="norm",
    )
    x = nn.relu(norm(x)).mean((1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(N_CLASSES, dtype=self.dtype, name="head")(x)


MODEL = ModelSpec("tiny", "classification", TinyNet, InputSpec((SIZE, SIZE), None), Weights("random"))


def variables(seed=0):
  """Random weights, made by numpy: compiling an initialiser takes longer than the training of most tests."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(TinyNet().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3), jnp.float32))
  made = jax.tree.map(lambda x: (rng.normal(size=x.shape) / np.sqrt(np.prod(x.shape[:-1]))).astype(x.dtype), shapes)
  norm = {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
  stats = {"mean": np.zeros(8, np.float32), "var": np.ones(8, np.float32)}
  return {"params": {**made["params"], "norm": norm}, "batch_stats": {"norm": stats}}


def pictures(n, seed=0):
  """A whole set as one batch; the class is in the mean colour, so that it can be learned."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, N_CLASSES, n).astype(np.int32)
  image = rng.integers(0, 128, (n, SIZE, SIZE, 3)) + 18 * label[:, None, None, None]
  return {
    "image": image.astype(np.uint8),
    "label": label,
    "id": np.array([f"picture{i:03}" for i in range(n)]),
    "mask": np.ones(n, bool),
  }


def batches(data, size, host=0, n_hosts=1):
  """Train batches in a new order every epoch, a pure function of the step; each host gets its part of the rows."""
  n = len(data["label"])

  def start(step):
    while True:
      epoch, i = divmod(step, n // size)
      order = np.random.default_rng([1, epoch]).permutation(n)[i * size : (i + 1) * size]
      rows = np.array_split(order, n_hosts)[host]
      yield {name: value[rows] for name, value in data.items()}
      step += 1

  return start
