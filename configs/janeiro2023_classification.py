"""Janeiro 2023, classification: Swin-T on ImageNet, 0.1 to 2 bpp, scenarios A, B, C and the control.

    robust-compress plan --config=configs/janeiro2023_classification.py --config.data_dir=TFDS --workdir=DIR
    robust-compress run  --config=configs/janeiro2023_classification.py:codecs=webp+jpeg --config.data_dir=TFDS …

Needs imagenet2012 prepared by TFDS and the hub's Swin-T weights. One network is finetuned for every rate, 30 epochs
each as in the paper: 11 weights a codec and one control, about 37,500 steps of 1024 pictures each, so plan for
accelerators (--config.recipe.steps=… shortens all of them alike). Not run by us yet: there is no ImageNet where we
build.

The codecs see the source pictures, and the model's own geometry follows (resize to 248, crop to 224, as timm feeds
these weights). The paper's text gives top-1 of 81 (A), 59.5 (B) and 73 (C) at 0.1 bpp of BPG, and about 79 (C) at 1
bpp for all codecs; the report draws them. The paper names WebP, BPG and two learned codecs; WebP is the default, and
codecs= asks for any others, as janeiro2023_detection.py does. Rates that a codec cannot reach are drawn as
unreachable.

The paper gives no learning rate. These are those of MMPretrain's Swin-T recipe (AdamW, 1e-3 for a batch of 1024,
decay 0.05, cosine to 1 %, label smoothing 0.1, stochastic depth 0.2), with its warm-up scaled from 20 epochs of 300
to 2 of 30. Other rates are tried on 50,000 training pictures that are then not trained on:

    python launch/sweep.py --config=configs/janeiro2023_classification.py --config.data_dir=TFDS --directory=DIR
"""

from robust_compress import settings

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)


def get_config(arg=None):
  key, _, codecs = (arg or "codecs=webp").partition("=")
  if key != "codecs":
    raise ValueError(f"argument {arg!r}; expected codecs=webp+jpeg or others of `robust-compress list codecs`")
  config = settings.default_config()
  config.title = "Janeiro 2023: Swin-T on ImageNet from 0.1 to 2 bits per pixel"
  config.models = ("swin_tiny_patch4_window7_224.ms_in1k",)
  config.test_data = "imagenet2012:validation"
  config.train_data = "imagenet2012:train"
  config.points = tuple(f"{codec}@{rate}bpp" for codec in codecs.split("+") for rate in RATES)
  config.protocols = ("baseline", "shifted", "finetuned", "control")
  config.recipe = settings.recipe_config(
    epochs=30.0,
    batch_size=1024,
    optimizer="adamw",
    learning_rate=1e-3,
    final_factor=0.01,
    warmup=2 / 30,
    weight_decay=0.05,
    clip_norm=5.0,
    label_smoothing=0.1,
    dropout=0.2,
  )
  config.batch_size = 512
  config.on_bad = "skip"
  config.lock()
  return config


def sweep():
  """Learning rates for WebP at a low and a high bit rate, each a tenth as long as the study."""
  for learning_rate in (1e-5, 1e-4, 1e-3):
    yield {
      "recipe.learning_rate": learning_rate,
      "recipe.epochs": 3.0,
      "points": ("webp@0.1bpp", "webp@1bpp"),
      "train_data": "imagenet2012:train[:1231167]",
      "test_data": "imagenet2012:train[1231167:]",
    }
