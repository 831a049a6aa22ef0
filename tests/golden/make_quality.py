"""Makes quality.json: MS-SSIM of small pictures by pytorch-msssim, and PSNR by its definition in float64 torch.

python tests/golden/make_quality.py     (needs torch and pytorch-msssim 1.0.0; writes beside itself)
"""

import json
import pathlib

import numpy as np
import torch
from pytorch_msssim import ms_ssim
from quality_cases import N_CASES, pair


def window() -> torch.Tensor:
  """float64[c 1 1 k]: its own Gaussian in double precision; in single it is off by 3e-8, and MS-SSIM by 2e-6."""
  at = torch.arange(-5, 6, dtype=torch.float64)
  weights = torch.exp(-(at**2) / (2 * 1.5**2))
  return (weights / weights.sum()).repeat(3, 1, 1, 1)


def measured(index: int) -> dict[str, float]:
  """In double precision, so that only the method can differ."""
  a, b = (torch.from_numpy(clip.transpose(0, 3, 1, 2).astype(np.float64)) for clip in pair(index))
  psnr = 10 * torch.log10(255**2 / torch.mean((a - b) ** 2))
  return {"psnr": psnr.item(), "ms_ssim": ms_ssim(a, b, data_range=255, win=window()).item()}


if __name__ == "__main__":
  cases = [measured(index) for index in range(N_CASES)]
  text = json.dumps(cases, indent=0)
  pathlib.Path(__file__).with_name("quality.json").write_text(text + "\n")
