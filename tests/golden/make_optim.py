"""Writes optim.json: what PyTorch's optimisers do to two parameters over six given gradients.

Run with PyTorch installed: python tests/golden/make_optim.py
"""

import json
import pathlib

import numpy as np
import torch

N_STEPS = 6
CASES = {
  "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
  "sgd nesterov": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
  "sgd plain": (torch.optim.SGD, {"momentum": 0.0, "weight_decay": 0.0}),
  "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
}


def main():
  rng = np.random.default_rng(0)
  kernel, bias = rng.normal(size=(3, 2)), rng.normal(size=2)
  gradients = [(rng.normal(size=(3, 2)), rng.normal(size=2)) for _ in range(N_STEPS)]
  result = {"kernel": kernel.tolist(), "bias": bias.tolist(), "version": torch.__version__}
  result["gradients"] = [[k.tolist(), b.tolist()] for k, b in gradients]
  for name, (optimizer, options) in CASES.items():
    for clip_norm in (None, 1.0):
      params = [torch.nn.Parameter(torch.tensor(x)) for x in (kernel, bias)]
      groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.0}]  # the bias does not decay
      rule = optimizer(groups, lr=0.1, **options)
      for gradient in gradients:
        for param, value in zip(params, gradient):
          param.grad = torch.tensor(value)
        if clip_norm:
          torch.nn.utils.clip_grad_norm_(params, clip_norm)
        rule.step()
      result[f"{name}, clip_norm={clip_norm}"] = [param.detach().numpy().tolist() for param in params]
  pathlib.Path(__file__).with_name("optim.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
