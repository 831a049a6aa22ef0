"""What tasks have in common whose labels are not classes of whole pictures."""

from __future__ import annotations

from typing import Any

from robust_compress.types import Arrays, Recipe, SpecError


class Unmixed:
  """Pictures that stay as they are within a batch."""

  name: str

  def augment(self, batch: Arrays, rng: Any, recipe: Recipe) -> Arrays:
    """Nothing. Raises SpecError for a recipe that asks for something."""
    if recipe.mixup or recipe.cutmix or recipe.label_smoothing:
      raise SpecError(f"{self.name}: mixup, cutmix and label_smoothing are for classes of pictures; leave them at 0")
    return batch
