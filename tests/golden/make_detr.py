"""Writes the goldens of DETR, in an environment with torch, timm, transformers (made with 5.23) and scipy:

PYTHONPATH=. python tests/golden/make_detr.py

models/<case>.npz        a reduced DetrForObjectDetection on seeded weights: logits and boxes, detections as its image
                         processor makes them; of one also, in float64, the losses of every decoder layer with their
                         gradients (as their norm and their product with a seeded direction)
models/detr_state_dicts.json  number and digest of the keys and shapes of the full networks: in the module, and in the
                         file that save_pretrained writes

The auxiliary losses are those of the published code: transformers' own option feeds the normalised output of a layer to
the next one, which the release does not, so layers are read by hooks and given to transformers' criterion.
"""

import json
import tempfile
from pathlib import Path

import detr_cases
import numpy as np
import reference
import seeded
import timm
import torch
from detr_cases import CASES
from safetensors import safe_open
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss
from transformers.models.detr.modeling_detr import replace_batch_norm

HERE = Path(__file__).parent / "models"
WEIGHTS = {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}


def reduced(case: detr_cases.Case) -> DetrForObjectDetection:
  config = DetrConfig(
    d_model=detr_cases.WIDTH,
    encoder_layers=detr_cases.N_LAYERS[0],
    decoder_layers=detr_cases.N_LAYERS[1],
    encoder_attention_heads=detr_cases.HEADS,
    decoder_attention_heads=detr_cases.HEADS,
    encoder_ffn_dim=detr_cases.HIDDEN,
    decoder_ffn_dim=detr_cases.HIDDEN,
    num_queries=detr_cases.N_QUERIES,
    num_labels=detr_cases.N_CLASSES,
    dropout=0.0,
  )
  model = DetrForObjectDetection(config)
  trunk = timm.create_model(
    case.trunk, features_only=True, out_indices=(4,), output_stride=16 if case.dilated else 32,
    layers=case.depths, channels=detr_cases.TRUNK_WIDTHS,
  )  # fmt: skip
  replace_batch_norm(trunk)
  model.model.backbone.model = trunk
  model.model.input_projection = torch.nn.Conv2d(trunk.feature_info.channels()[-1], detr_cases.WIDTH, 1)
  reference.load(model, detr_cases.apart(seeded.state_dict(reference.shapes(model))))
  for parameter in model.parameters():
    parameter.requires_grad_(True)
  return model.eval()


def inputs(dtype: torch.dtype) -> dict[str, torch.Tensor]:
  mask = np.zeros((2, *detr_cases.SIZE), np.int64)
  for one, (height, width) in zip(mask, detr_cases.SIZES):
    one[:height, :width] = 1
  picture = torch.from_numpy(detr_cases.padded(seeded.picture(detr_cases.SIZE))).permute(0, 3, 1, 2)
  return {"pixel_values": picture.to(dtype), "pixel_mask": torch.from_numpy(mask)}


def targets() -> list[dict[str, torch.Tensor]]:
  found = []
  for (height, width), boxes, labels in zip(detr_cases.SIZES, detr_cases.BOXES, detr_cases.LABELS):
    x0, y0, x1, y1 = (np.array(boxes) / [width, height, width, height]).T
    centres = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)
    found.append({"class_labels": torch.tensor(labels), "boxes": torch.from_numpy(centres)})
  return found


def losses(model: DetrForObjectDetection) -> dict[str, np.ndarray]:
  layers = []
  hooks = [layer.register_forward_hook(lambda _, __, y: layers.append(y)) for layer in model.model.decoder.layers]
  model(**inputs(torch.float64))
  for hook in hooks:
    hook.remove()
  normed = [model.model.decoder.layernorm(y) for y in layers]
  found = [
    {"logits": model.class_labels_classifier(y), "pred_boxes": model.bbox_predictor(y).sigmoid()} for y in normed
  ]
  criterion = ImageLoss(HungarianMatcher(1, 5, 2), detr_cases.N_CLASSES, 0.1, ["labels", "boxes"]).double()
  terms = criterion({**found[-1], "auxiliary_outputs": found[:-1]}, targets())
  weighed = {
    key: value * next(WEIGHTS[name] for name in WEIGHTS if key.startswith(name)) for key, value in terms.items()
  }
  sum(weighed.values()).backward()
  arrays = {f"loss/{key}": value.detach().numpy() for key, value in weighed.items()}
  for key, value in model.named_parameters():
    arrays[f"gradient/{key}"] = seeded.told(key, value.grad.numpy())
  return arrays


def outputs(name: str) -> dict[str, np.ndarray]:
  model = reduced(CASES[name])
  with torch.inference_mode():
    found = model(**inputs(torch.float32))
  sizes = torch.from_numpy(detr_cases.SIZES)
  told = DetrImageProcessor().post_process_object_detection(found, threshold=0.0, target_sizes=sizes)
  arrays = {"logits": found.logits, "boxes": found.pred_boxes}
  arrays |= {f"detections/{key}": torch.stack([one[key] for one in told]) for key in told[0]}
  found = {key: value.numpy() for key, value in arrays.items()}
  return found | losses(model.double()) if name in detr_cases.TRAINED else found


def state_dicts() -> dict[str, dict[str, list]]:
  listed = {}
  for name, backbone, dilated in (
    ("detr_resnet50", "resnet50", False),
    ("detr_resnet101", "resnet101", False),
    ("detr_resnet101_dc5", "resnet101", True),
  ):
    model = DetrForObjectDetection(DetrConfig(backbone=backbone, dilation=dilated, num_labels=91))
    with tempfile.TemporaryDirectory() as folder:
      model.save_pretrained(folder)
      with safe_open(Path(folder) / "model.safetensors", "numpy") as file:
        saved = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    layouts = {"module": reference.shapes(model), "file": saved}
    listed[name] = {where: [len(shapes), seeded.digest(shapes)] for where, shapes in layouts.items()}
  return listed


def main() -> None:
  HERE.mkdir(exist_ok=True)
  for name in CASES:
    np.savez_compressed(HERE / f"{name}.npz", **outputs(name))
    print(f"{name}: {(HERE / f'{name}.npz').stat().st_size} bytes")
  (HERE / "detr_state_dicts.json").write_text(json.dumps(state_dicts(), indent=1) + "\n")


if __name__ == "__main__":
  main()
