"""CompressAI's names of parameters and ours: one table for all networks.

A digit of theirs is `layers_` and the digit of ours, since both count the steps of a sequence alike; a network uses the
lines whose path it has, and `convert` refuses what is then left over or unfilled. `RULES` holds the names of
CompressAI 1.2.8, both ways, and of our gain units, which it lacks; `READING` also the older names, which published
files may carry.
"""

from __future__ import annotations

from collections.abc import Iterator

from robust_compress.convert import Rule

_ATTENTION = (".conv_a.{j}.conv.{k}", ".conv_b.{j}.conv.{k}", ".conv_b.{j}")
_BLOCKS = ("", ".0", ".conv1", ".conv2", ".conv", ".skip", ".subpel_conv.0", ".upsample.0", *_ATTENTION)
_BOTTLENECK = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
_TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "likelihood_lower_bound.bound")
_CONSTANTS = (
  *(f"entropy_bottleneck.{name}" for name in (*_TABLES, "target")),
  *(f"gaussian_conditional.{name}" for name in (*_TABLES, "scale_table", "scale_bound", "lower_bound_scale.bound")),
  "context_prediction.mask",
)


def _path(key: str) -> str:
  """'g_a.{i}.conv1' -> 'params/g_a/layers_{i}/conv1'."""
  parts = key.split(".")
  return "/".join(["params", *(f"layers_{part}" if part[0] in "{0123456789" else part for part in parts)])


def _layer(key: str, kernel: str = "kernel", transform: str = "conv") -> tuple[Rule, Rule]:
  path = _path(key)
  return Rule(f"{key}.weight", f"{path}/{kernel}", transform), Rule(f"{key}.bias", f"{path}/bias")


def _gdn(key: str) -> Iterator[Rule]:
  yield Rule(f"{key}.beta", f"{_path(key)}/beta")
  yield Rule(f"{key}.gamma", f"{_path(key)}/gamma", "linear")
  for part in ("beta", "gamma"):
    yield Rule(f"{key}.{part}_reparam.pedestal", "", "ignored")
    yield Rule(f"{key}.{part}_reparam.lower_bound.bound", "", "ignored")


def _transform(name: str) -> Iterator[Rule]:
  for block in _BLOCKS:
    yield from _layer(f"{name}.{{i}}{block}")
  yield _layer(f"{name}.{{i}}", "transposed", "deconv")[0]
  for norm in ("", ".gdn", ".igdn"):
    yield from _gdn(f"{name}.{{i}}{norm}")


RULES: tuple[Rule, ...] = (
  *(rule for name in ("g_a", "g_s", "h_a", "h_s") for rule in _transform(name)),
  *_layer("context_prediction"),
  *_layer("entropy_parameters.{i}"),
  *(
    Rule(f"entropy_bottleneck.{theirs}.{{i}}", f"params/entropy_bottleneck/{ours}{{i}}")
    for theirs, ours in _BOTTLENECK.items()
  ),
  Rule("entropy_bottleneck.quantiles", "params/entropy_bottleneck/quantiles"),
  *(Rule(f"gain_{x}.log_{of}", f"params/gain_{x}/log_{of}") for x in "yz" for of in ("gain", "inverse")),
  *(Rule(name, "", "ignored") for name in _CONSTANTS),
)


def _older(rule: Rule) -> Iterator[Rule]:
  """The same rule for names of earlier versions."""
  if ".skip." in rule.foreign:
    yield Rule(rule.foreign.replace(".skip.", ".downsample."), rule.ours, rule.transform)
  for new, ours in _BOTTLENECK.items():
    if f".{new}." in rule.foreign:
      for old in (f"_{ours}{{i}}", f"_{new}.{{i}}"):
        yield Rule(f"entropy_bottleneck.{old}", rule.ours, rule.transform)


READING: tuple[Rule, ...] = (*RULES, *(older for rule in RULES for older in _older(rule)))
