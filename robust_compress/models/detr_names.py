"""The names of DETR's weights, in three layouts of the same arrays.

    RULES           files: the hub's (facebook/detr-…) and what transformers saves; `export` writes these
    MODULE_RULES    the state_dict of the module in transformers 5, which differs from its files
    OFFICIAL_RULES  the release of facebookresearch/detr, whose attention packs queries, keys and values as ours does

`READING` understands all of them.
"""

from __future__ import annotations

from robust_compress import convert
from robust_compress.models.resnet import trunk_rules


def _plain(rules: tuple[convert.Rule, ...]) -> tuple[convert.Rule, ...]:
  """Without the counters of batches, which frozen batch norm has not."""
  return tuple(rule for rule in rules if rule.transform != "counter")


def _packed(foreign: str, ours: str) -> tuple[convert.Rule, ...]:
  """torch.nn.MultiheadAttention."""
  return (
    convert.Rule(f"{foreign}.in_proj_weight", f"params/{ours}/in_proj_kernel", "linear"),
    convert.Rule(f"{foreign}.in_proj_bias", f"params/{ours}/in_proj_bias"),
    *convert.linear(f"{foreign}.out_proj", f"{ours}/out_proj"),
  )


def _apart(foreign: str, ours: str, out: str) -> tuple[convert.Rule, ...]:
  """transformers' attention, whose queries, keys and values have a matrix each."""
  parts = [(name, (i, 3)) for i, name in enumerate(("q_proj", "k_proj", "v_proj"))]
  return (
    *(convert.Rule(f"{foreign}.{n}.weight", f"params/{ours}/in_proj_kernel", "linear", part) for n, part in parts),
    *(convert.Rule(f"{foreign}.{n}.bias", f"params/{ours}/in_proj_bias", part=part) for n, part in parts),
    *convert.linear(f"{foreign}.{out}", f"{ours}/out_proj"),
  )


OFFICIAL_RULES = (
  *_plain(trunk_rules("backbone.0.body.", "backbone/")),
  *convert.conv("input_proj", bias=True),
  convert.Rule("query_embed.weight", "params/query_embed"),
  *convert.linear("class_embed"),
  *convert.linear("bbox_embed.layers.{i}", "bbox_embed_{i}"),
  *(
    rule
    for part in ("encoder", "decoder")
    for theirs, ours in ((f"transformer.{part}.layers.{{i}}", f"{part}_{{i}}"),)
    for rule in (
      *_packed(f"{theirs}.self_attn", f"{ours}/self_attn"),
      *convert.linear(f"{theirs}.linear{{j}}", f"{ours}/linear{{j}}"),
      *convert.layer_norm(f"{theirs}.norm{{j}}", f"{ours}/norm{{j}}"),
    )
  ),
  *_packed("transformer.decoder.layers.{i}.multihead_attn", "decoder_{i}/multihead_attn"),
  *convert.layer_norm("transformer.decoder.norm", "decoder_norm"),
)


def _transformers_rules(backbone: str, mlp: str, out: str) -> tuple[convert.Rule, ...]:
  encoder, decoder = "model.encoder.layers.{i}", "model.decoder.layers.{i}"
  return (
    *_plain(trunk_rules(f"model.{backbone}.model.", "backbone/")),
    *convert.conv("model.input_projection", "input_proj", bias=True),
    convert.Rule("model.query_position_embeddings.weight", "params/query_embed"),
    *convert.linear("class_labels_classifier", "class_embed"),
    *convert.linear("bbox_predictor.layers.{i}", "bbox_embed_{i}"),
    *_apart(f"{encoder}.self_attn", "encoder_{i}/self_attn", out),
    *_apart(f"{decoder}.self_attn", "decoder_{i}/self_attn", out),
    *_apart(f"{decoder}.encoder_attn", "decoder_{i}/multihead_attn", out),
    *(
      rule
      for theirs, ours in ((encoder, "encoder_{i}"), (decoder, "decoder_{i}"))
      for rule in (
        *convert.linear(f"{theirs}.{mlp}fc{{j}}", f"{ours}/linear{{j}}"),
        *convert.layer_norm(f"{theirs}.self_attn_layer_norm", f"{ours}/norm1"),
      )
    ),
    *convert.layer_norm(f"{encoder}.final_layer_norm", "encoder_{i}/norm2"),
    *convert.layer_norm(f"{decoder}.encoder_attn_layer_norm", "decoder_{i}/norm2"),
    *convert.layer_norm(f"{decoder}.final_layer_norm", "decoder_{i}/norm3"),
    *convert.layer_norm("model.decoder.layernorm", "decoder_norm"),
  )


RULES = _transformers_rules("backbone.conv_encoder", "", "out_proj")
MODULE_RULES = _transformers_rules("backbone", "mlp.", "o_proj")
READING = (*RULES, *MODULE_RULES, *OFFICIAL_RULES)
