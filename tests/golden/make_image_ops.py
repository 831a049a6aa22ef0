"""Makes image_ops.npz: what torchvision's PIL transforms do to small pictures, and the crop boxes they draw.

python tests/golden/make_image_ops.py     (needs torch, torchvision, timm and Pillow; writes beside itself)
"""

import pathlib

import numpy as np
import reference  # noqa: F401  torchvision can be imported after it
import torch
from image_ops_cases import CASES, RATIO, SCALE, SHAPES, picture
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, RandomResizedCrop, Resize


def transformed(index: int) -> np.ndarray:
  _, size, interpolation, crop = CASES[index]
  image = Image.fromarray(picture(index))
  if size is not None:
    image = Resize(size, InterpolationMode(interpolation))(image)
  return np.asarray(image if crop is None else CenterCrop(crop)(image))


def boxes(shape: tuple[int, int], n: int) -> tuple[np.ndarray, np.ndarray]:
  """(int64[n 4], float64[n 22]): boxes (top, left, h, w), and the numbers drawn for each, in order, filled with nan."""
  drawn: list[float] = []
  uniform, randint = torch.Tensor.uniform_, torch.randint

  def recorded(draw):
    def call(*args, **kwargs):
      result = draw(*args, **kwargs)
      drawn.append(result.item())
      return result

    return call

  torch.Tensor.uniform_, torch.randint = recorded(uniform), recorded(randint)
  made, draws = [], np.full((n, 22), np.nan)
  for row in draws:
    drawn.clear()
    made.append(RandomResizedCrop.get_params(Image.new("RGB", shape[::-1]), list(SCALE), list(RATIO)))
    row[: len(drawn)] = drawn
  torch.Tensor.uniform_, torch.randint = uniform, randint
  return np.array(made), draws


if __name__ == "__main__":
  torch.manual_seed(0)
  arrays = {f"transformed_{index}": transformed(index) for index in range(len(CASES))}
  for number, shape in enumerate(SHAPES):
    arrays[f"boxes_{number}"], arrays[f"draws_{number}"] = boxes(shape, 40)
  np.savez_compressed(pathlib.Path(__file__).with_name("image_ops.npz"), **arrays)
