"""A class a pixel: cross-entropy, and what one confusion matrix says.

    logits[b h w k] in the input ──predict──▶ segmentation uint8[b H W] in the view ──statistics──▶ pixels uint32[k 3]
    pixels[n k 3] ──compute──▶ mIoU, global_accuracy, mean_accuracy

Pictures of a batch lie in the upper left of one canvas; 'size' says how much of it is theirs, and 255 stands beyond, as
it does where the truth does not count. Metrics are those of MMSegmentation's IoUMetric.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_compress.tasks.resampling import resampled_classes
from robust_compress.tasks.unmixed import Unmixed
from robust_compress.types import IGNORED, Arrays, DataError

AUXILIARY = 0.4  # weight of an auxiliary head's loss, as in MMSegmentation's configs


class Segmentation(Unmixed):
  """Mean IoU over the classes that there are, in the truth or in a prediction."""

  name = "segmentation"
  version = "1"
  primary_metric = "mIoU"
  higher_is_better = True

  def loss(self, outputs: Any, batch: Arrays) -> dict[str, tuple[Any, Any]]:
    """Cross-entropy with batch['segmentation'] uint8[b h w], a mean over the pixels that count.

    MMSegmentation divides by all pixels instead (`avg_non_ignore=False`), so that there pictures with much that does
    not count weigh less. A label that the network has no class for makes the loss nan, and training stops.
    """
    losses = {"cross_entropy": _cross_entropy(outputs["logits"], batch)}
    if "auxiliary" in outputs:
      total, n = _cross_entropy(outputs["auxiliary"], batch)
      losses["auxiliary"] = AUXILIARY * total, n
    return losses

  def predict(self, outputs: Any, batch: Arrays) -> Arrays:
    """{'segmentation' uint8[b H W], 'size' int32[b 2], 'n_classes' int32[b]}.

    Of the view, by bilinear logits, where the batch has its segmentation and so says how large it is; else of the
    input. Outputs may be bare logits, as those of a foreign network are.
    """
    logits = jnp.asarray(outputs["logits"] if isinstance(outputs, Mapping) else outputs)
    n, *shape, n_classes = logits.shape
    if n_classes > IGNORED:
      raise DataError(f"segmentation: the model has {n_classes} classes; a pixel holds one of at most {IGNORED}")
    extent = jnp.broadcast_to(jnp.asarray(shape, jnp.float32), (n, 2))
    as_it_is = jnp.broadcast_to(jnp.asarray([0, 0, 1, 1], jnp.float32), (n, 4))
    place = jnp.asarray(batch["place"]) if "place" in batch else jnp.concatenate([as_it_is, extent], -1)
    if "segmentation" in batch:
      shape, size = batch["segmentation"].shape[1:], jnp.asarray(batch["size"]).astype(jnp.int32)
    else:
      place, size = jnp.concatenate([as_it_is, place[:, 4:]], -1), place[:, 4:].astype(jnp.int32)
    classes = resampled_classes(logits, place, tuple(shape))
    rows, columns = (jnp.arange(side, dtype=jnp.int32) for side in shape)
    inside = (rows[None, :, None] < size[:, :1, None]) & (columns[None, None] < size[:, 1:, None])
    return {
      "segmentation": jnp.where(inside, classes, jnp.uint8(IGNORED)),
      "size": size,
      "n_classes": jnp.full(n, n_classes, jnp.int32),
    }

  def packed(self, predictions: Arrays) -> dict[str, np.ndarray]:
    """The predictions with each segmentation as a compressed uint8[m]: some hundredths of its pixels to keep."""
    maps = np.empty(len(predictions["size"]), object)
    for index, (pixels, size) in enumerate(zip(predictions["segmentation"], predictions["size"])):
      packed = zlib.compress(np.ascontiguousarray(unpacked(pixels, size)), 1)
      maps[index] = np.frombuffer(packed, np.uint8)
    return {**predictions, "segmentation": maps}

  def as_targets(self, predictions: Arrays) -> dict[str, np.ndarray]:
    """The predicted class of every pixel as its label (Reich 2024); predictions may be packed."""
    return {name: np.asarray(predictions[name]) for name in ("segmentation", "size")}

  def statistics(self, predictions: Arrays, targets: Arrays) -> list[dict[str, np.ndarray]]:
    """{'pixels': uint32[k 3]} an example, of its pixels that count: of class k in both, in prediction, in truth.

    k is 'n_classes' of the predictions, or 255 where they do not say. Raises DataError for a label that is no class of
    the model, and for a prediction of another size than the truth.
    """
    records = []
    for index, size in enumerate(targets["size"]):
      id = str(targets["id"][index]) if "id" in targets else "a prediction on the original"
      found = unpacked(predictions["segmentation"][index], predictions["size"][index])
      truth = unpacked(targets["segmentation"][index], size)
      if found.shape != truth.shape:
        raise DataError(
          f"{id}: the segmentation is of {truth.shape} pixels, and what was predicted is of {found.shape}"
        )
      n_classes = int(predictions["n_classes"][index]) if "n_classes" in predictions else IGNORED
      records.append({"pixels": _pixels(found, truth, n_classes, id)})
    return records

  def compute(self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """Of all pixels together: 'mIoU' over classes in truth or predictions, 'mean_accuracy' over those in the truth."""
    both, predicted, labelled = _totals(records, weights)
    return {
      "mIoU": _mean_ratio(both, predicted + labelled - both),
      "global_accuracy": _mean_ratio(both.sum(keepdims=True), labelled.sum(keepdims=True)),
      "mean_accuracy": _mean_ratio(both, labelled),
    }

  def per_class(
    self, records: Mapping[str, np.ndarray], weights: np.ndarray | None = None
  ) -> dict[int, dict[str, float]]:
    """{class: {'IoU', 'accuracy'}} of every class in truth or predictions; accuracy is nan without truth."""
    both, predicted, labelled = _totals(records, weights)
    union = predicted + labelled - both
    return {
      int(label): {
        "IoU": float(both[label] / union[label]),
        "accuracy": float(both[label] / labelled[label]) if labelled[label] else float("nan"),
      }
      for label in np.flatnonzero(union)
    }


def unpacked(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
  """uint8[h w] of one picture of size (h, w), from its canvas or from what `Segmentation.packed` made of it."""
  height, width = (int(side) for side in size)
  if pixels.ndim == 2:
    return pixels[:height, :width]
  return np.frombuffer(zlib.decompress(pixels), np.uint8).reshape(height, width)


def _cross_entropy(logits: jax.Array, batch: Arrays) -> tuple[jax.Array, jax.Array]:
  """(sum over the pixels that count, their number)."""
  logits, label = logits.astype(jnp.float32), batch["segmentation"].astype(jnp.int32)
  counts = label != IGNORED
  if "mask" in batch:
    counts = counts & batch["mask"][:, None, None]
  own = jnp.take_along_axis(logits, jnp.where(counts, label, 0)[..., None], -1, mode="fill")[..., 0]
  return jnp.where(counts, jax.nn.logsumexp(logits, -1) - own, 0.0).sum(), counts.astype(jnp.float32).sum()


def _pixels(found: np.ndarray, truth: np.ndarray, n_classes: int, id: str) -> np.ndarray:
  pairs = truth.astype(np.uint16) << 8 | found
  confusion = np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)[:IGNORED]
  labelled = confusion.sum(1)
  if labelled[n_classes:].any():
    unknown = n_classes + int(np.flatnonzero(labelled[n_classes:])[0])
    raise DataError(
      f"{id}: {labelled[unknown]} pixels have label {unknown}, and the model has classes 0 to {n_classes - 1}; "
      f"the data needs the class list of the model, and {IGNORED} where no class counts"
    )
  return np.stack([confusion.diagonal(), confusion.sum(0)[:IGNORED], labelled], 1)[:n_classes].astype(np.uint32)


def _totals(records: Mapping[str, np.ndarray], weights: np.ndarray | None) -> np.ndarray:
  """float64[3 k]: the pixels of all pictures, as often as they are drawn."""
  pixels = records["pixels"]
  weights = np.ones(len(pixels)) if weights is None else weights
  return np.tensordot(np.asarray(weights, np.float64), pixels.astype(np.float64), 1).T


def _mean_ratio(part: np.ndarray, whole: np.ndarray) -> float:
  """Over the classes that have a whole; nan where none has."""
  there = whole > 0
  return float((part[there] / whole[there]).mean()) if there.any() else float("nan")
