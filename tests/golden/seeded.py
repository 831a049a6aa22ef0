"""Weights and inputs that two frameworks make alike from names and shapes, so that goldens store only outputs.

Every array comes from its own Philox stream, keyed by the SHA-256 of its name. numpy is the only import.
"""

import hashlib
from collections.abc import Mapping

import numpy as np


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """float32 standard normal numbers that depend on nothing but the name and the shape."""
  key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
  return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def told(name: str, gradient: np.ndarray) -> np.ndarray:
  """float[2], what a golden keeps of a gradient: its norm, and its product with a direction drawn from its name."""
  return np.array([np.linalg.norm(gradient), np.vdot(gradient, normal(f"direction {name}", gradient.shape))])


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """An array of a PyTorch state_dict, by its key: activations keep their size and no term vanishes."""
  kind = name.rsplit(".", 1)[-1]
  if kind == "num_batches_tracked":
    return np.zeros(shape, np.int64)
  if kind == "running_var":
    return np.exp(0.3 * normal(name, shape))
  if len(shape) > 1:  # fan-in scaling for kernels; embeddings and tables of biases are of the size of the tokens
    return normal(name, shape) * np.float32(np.prod(shape[1:]) ** -0.5 if kind == "weight" else 0.5)
  return (1 if kind == "weight" else 0) + np.float32(0.1) * normal(name, shape)


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Weights for every key of a state_dict."""
  return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}


def picture(size: tuple[int, int], n: int = 2) -> np.ndarray:
  """float32[n h w 3], normalised already."""
  return normal("picture", (n, *size, 3))


def photo(size: tuple[int, int], n: int = 2) -> np.ndarray:
  """uint8[n h w 3]."""
  return np.clip(128 + 64 * normal("photo", (n, *size, 3)), 0, 255).astype(np.uint8)


def segmentation(size: tuple[int, int], n: int, n_classes: int) -> np.ndarray:
  """uint8[n h w], 255 where the drawn number is no class."""
  made = np.abs(3 * normal("segmentation", (n, *size))).astype(np.uint8)
  return np.where(made < n_classes, made, 255).astype(np.uint8)


def labels(n: int, n_classes: int) -> np.ndarray:
  return np.arange(n) % n_classes


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
  """16 hex digits over the sorted keys and shapes of a state_dict."""
  lines = sorted(f"{name} {tuple(int(n) for n in shape)}" for name, shape in shapes.items())
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
