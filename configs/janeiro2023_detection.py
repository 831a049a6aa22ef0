"""Janeiro 2023, detection: DDOD on COCO, 0.1 to 2 bpp, scenarios A, B, C and the control.

    robust-compress plan --config=configs/janeiro2023_detection.py --config.data_dir=TFDS --workdir=DIR
    robust-compress run  --config=configs/janeiro2023_detection.py:codecs=bpg+webp --config.data_dir=TFDS \
        --config.models="('ddod_r50_fpn.mmdet_coco(weights=FILE)',)" --workdir=DIR

Needs coco/2017 prepared by TFDS, or COCO's own files as --config.test_data="coco(path=coco):val2017" and
--config.train_data="coco(path=coco):train2017", and MMDetection's checkpoint of DDOD as FILE. The codecs are the
paper's: BPG, WebP, and of CompressAI mbt2018 ('M&S') and cheng2020, of which the paper does not say with or without
attention (cheng2020-anchor for the latter). The two need CompressAI's files, as in
codecs=cheng2020-attn(weights=FOLDER)+mbt2018(weights=FOLDER); mbt2018 alone is the small network that is shipped.

One network is finetuned for every rate, 12 epochs each as in the paper: 11 weights a codec and one control, 88,715
steps of 16 pictures each. All four codecs are 45 weights, 4.0 million steps, and up to 5.4 million codings (rates that
share a level share their pictures), so plan for accelerators, several studies of a codec each, and days of coding on
many cores for the learned ones; --config.recipe.steps=… shortens all trainings alike. At 5 steps a second a training
takes 5 hours. Not run by us yet: there is no COCO where we build.

The paper's text gives AP of 42.5 (A) and of 42.0 (C) at 0.4 bpp of cheng2020, and for the learned codecs at 0.1 bpp a
loss of 10 points or more (B) that falls to under 5 (C); the report draws the first two. Its baseline is the better of
the published weights and those finetuned on originals, and only in detection the second was better (MMDetection states
41.7 for the first). Here A is always the published one, and the control has its own row on originals to compare. Rates
that a codec cannot reach are drawn as unreachable: on Kodak cheng2020 ends near 0.81 bpp and mbt2018 near 1.59.

The paper gives no learning rate. These are those of MMDetection's DDOD (SGD, 0.01 for a batch of 16, momentum 0.9,
decay 1e-4, a tenth after epochs 8 and 11, 500 steps of warm-up, flips, stem, first stage and running statistics
frozen). Pictures without objects are trained on too, which MMDetection leaves out.
"""

from robust_compress import settings

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
N_TRAIN = 118_287


def get_config(arg=None):
  key, _, codecs = (arg or "codecs=cheng2020-attn+mbt2018+bpg+webp").partition("=")
  if key != "codecs":
    raise ValueError(f"argument {arg!r}; expected codecs=bpg+webp or others of `robust-compress list codecs`")
  config = settings.default_config()
  config.title = "Janeiro 2023: DDOD on COCO from 0.1 to 2 bits per pixel"
  config.task = "detection"
  config.models = ("ddod_r50_fpn.mmdet_coco",)
  config.test_data = "coco/2017:validation"
  config.train_data = "coco/2017:train"
  config.points = tuple(f"{codec}@{rate}bpp" for codec in codecs.split("+") for rate in RATES)
  config.protocols = ("baseline", "shifted", "finetuned", "control")
  config.recipe = settings.recipe_config(
    epochs=12.0,
    batch_size=16,
    learning_rate=0.01,
    schedule="step",
    milestones=(8 / 12, 11 / 12),
    warmup=500 / (12 * N_TRAIN // 16),
    weight_decay=1e-4,
    decay_bias_and_norm=True,
    crop_scale=None,
    batch_norm="frozen",
  )
  config.batch_size = 16
  config.lock()
  return config
