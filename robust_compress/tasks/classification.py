"""One class a picture: softmax cross-entropy, top-1 and top-5.

    logits[b k] ──predict──▶ top1[b], top5[b 5] ──statistics──▶ correct1, correct5 ──compute──▶ top1, top5

Mixup follows Zhang et al. 2018, CutMix Yun et al. 2019, label smoothing Szegedy et al. 2016. Labels stay class indices
while they are mixed and smoothed: a batch then also has 'label2', 'mix' and 'smoothing', so that nothing before the
network needs to know the number of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.types import Arrays, DataError, Recipe


class Classification:
  """Top-1 and top-5 accuracy over the classes of the model.

  A label of -1 is a picture without a class: it has no weight in the loss and cannot be scored by labels.
  """

  name = "classification"
  version = "1"
  primary_metric = "top1"
  right = "correct1"  # the record that says whether a picture was understood
  higher_is_better = True

  def loss(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """Cross-entropy of logits[b k] with batch['label'], int32[b] or a distribution float32[b k]."""
    log_p = jax.nn.log_softmax(outputs.astype(jnp.float32))
    label, weight = batch["label"], jnp.ones(log_p.shape[:1], jnp.float32)
    if "mask" in batch:
      weight = weight * batch["mask"].astype(jnp.float32)
    if label.ndim == 2:
      target_log_p = (label * log_p).sum(-1)
    else:
      weight = weight * (label >= 0).astype(jnp.float32)
      target_log_p = _pick(log_p, label)
      if "label2" in batch:
        weight = weight * (batch["label2"] >= 0).astype(jnp.float32)
        target_log_p = (1 - batch["mix"]) * target_log_p + batch["mix"] * _pick(log_p, batch["label2"])
    if "smoothing" in batch:
      smoothing = batch["smoothing"]
      target_log_p = (1 - smoothing) * target_log_p + smoothing * log_p.mean(-1)
    # where, not a product: a masked row may hold anything
    return {"cross_entropy": (-jnp.where(weight > 0, weight * target_log_p, 0.0).sum(), weight.sum())}

  def augment(self, batch: Arrays, rng: Any, recipe: Recipe) -> Arrays:
    """Label smoothing, and mixup or CutMix (one of them drawn for the batch where both are on) with the row opposite.

    Images become float32[b h w 3] in 0..255 where they are mixed.
    """
    batch = dict(batch)
    if recipe.label_smoothing:
      batch["smoothing"] = jnp.full(batch["label"].shape[:1], recipe.label_smoothing, jnp.float32)
    if not recipe.mixup and not recipe.cutmix:
      return batch
    rng_mixup, rng_cutmix, rng_which = jax.random.split(rng, 3)
    image, shares = batch["image"].astype(jnp.float32), []  # shares: float32[h w 1] of the row opposite
    if recipe.mixup:
      share = jax.random.beta(rng_mixup, recipe.mixup, recipe.mixup, dtype=jnp.float32)
      shares.append(jnp.full((*image.shape[1:3], 1), share))
    if recipe.cutmix:
      shares.append(_box(rng_cutmix, recipe.cutmix, image.shape[1:3]))
    share = shares[0] if len(shares) == 1 else jnp.where(jax.random.bernoulli(rng_which), *shares)
    batch["image"] = image + share * (image[::-1] - image)
    batch["label2"], batch["mix"] = batch["label"][::-1], jnp.full(image.shape[:1], share.mean())
    if "mask" in batch:
      batch["mask"] = batch["mask"] & batch["mask"][::-1]
    return batch

  def predict(self, outputs: Any, batch: Arrays) -> Arrays:
    """{'top1': int32[b], 'top5': int32[b 5]}, best first; of equal logits the lower class, of absent classes -1.

    A foreign function may say as much itself, in place of logits[b k].
    """
    if isinstance(outputs, Mapping):
      return {name: jnp.asarray(outputs[name]).astype(jnp.int32) for name in ("top1", "top5")}
    n_classes = outputs.shape[-1]
    _, best = jax.lax.top_k(outputs.astype(jnp.float32), min(5, n_classes))
    best = jnp.pad(best.astype(jnp.int32), ((0, 0), (0, max(5 - n_classes, 0))), constant_values=-1)
    return {"top1": best[:, 0], "top5": best}

  def as_targets(self, predictions: Arrays) -> dict[str, np.ndarray]:
    """The predicted class as the label (Reich 2024's pseudo-label)."""
    return {"label": np.asarray(predictions["top1"])}

  def statistics(self, predictions: Arrays, targets: Arrays) -> list[dict[str, np.ndarray]]:
    """{'correct1': uint8[], 'correct5': uint8[]} an example. Raises DataError for examples without a class."""
    label = np.asarray(targets["label"])
    if (label < 0).any():
      raise DataError(
        f"{(label < 0).sum()} pictures of a batch of {len(label)} have no label; score with target 'self'"
      )
    correct1 = np.asarray(predictions["top1"]) == label
    correct5 = (np.asarray(predictions["top5"]) == label[:, None]).any(1)
    return [{"correct1": np.uint8(one), "correct5": np.uint8(five)} for one, five in zip(correct1, correct5)]

  def compute(self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """{'top1', 'top5'}: weighted shares of correct examples; nan where there is no example."""
    if not len(records["correct1"]):
      return {"top1": float("nan"), "top5": float("nan")}
    return {f"top{k}": float(np.average(records[f"correct{k}"], weights=weights)) for k in (1, 5)}


def _pick(log_p: jax.Array, label: jax.Array) -> jax.Array:
  """log_p[b k] at label[b]; any value for a label of -1."""
  return jnp.take_along_axis(log_p, jnp.maximum(label, 0)[:, None], axis=1)[:, 0]


def _box(rng: jax.Array, alpha: float, size: tuple[int, int]) -> jax.Array:
  """float32[h w 1], 1 in a random box that covers a Beta(alpha, alpha) share of the picture before it is clipped."""
  rng_share, *rng_centre = jax.random.split(rng, 3)
  side = jnp.sqrt(jax.random.beta(rng_share, alpha, alpha, dtype=jnp.float32))
  inside = []
  for length, key in zip(size, rng_centre):
    centre = jax.random.randint(key, (), 0, length).astype(jnp.float32)
    distance = jnp.abs(jnp.arange(length, dtype=jnp.float32) - centre)
    inside.append((distance < side * (length / 2)).astype(jnp.float32))
  return (inside[0][:, None] * inside[1][None, :])[..., None]
