"""Janeiro 2023, segmentation: UPerNet with Swin-T on ADE20K, 0.1 to 2 bpp, scenarios A, B, C and the control.

    robust-compress plan --config=configs/janeiro2023_segmentation.py --config.data_dir=DATA --workdir=DIR
    robust-compress run  --config=configs/janeiro2023_segmentation.py:codecs=bpg+webp --config.data_dir=DATA \
        --config.models="('upernet_swin_tiny.mmseg_ade20k(weights=FILE)',)" --workdir=DIR

Needs ADEChallengeData2016 as its authors pack it (the 150 classes of scene parsing; TFDS's scene_parse150 has other
labels), and MMSegmentation's checkpoint as FILE. The codecs are the paper's: BPG, WebP, and of CompressAI mbt2018
('M&S') and cheng2020, of which the paper does not say with or without attention (cheng2020-anchor for the latter). The
two need CompressAI's files, as in codecs=cheng2020-attn(weights=FOLDER)+mbt2018(weights=FOLDER); mbt2018 alone is the
small network that is shipped.

One network is finetuned for every rate, 160,000 iterations each as in the paper: 11 weights a codec and one control, of
16 crops a step. All four codecs are 45 weights, 7.2 million steps, and up to 977,240 codings of 20,210 training and
2,000 validation pictures (rates that share a level share theirs), so plan for accelerators and several studies of a
codec each; --config.recipe.steps=… shortens all trainings alike. At 5 steps a second a training takes 9 hours. Not run
by us yet: there is no ADE20K where we build.

The paper's text gives mIoU of 44.5 on originals (1.44 bpp), 30.5 (B) and 42 (C) at 0.1 bpp of cheng2020, and the
baseline's 44.5 (C) at 0.6 bpp; the report draws them. Training for as long on originals did not help there, and its row
on originals says whether it does here. Rates that a codec cannot reach are drawn as unreachable: on Kodak cheng2020
ends near 0.81 bpp and mbt2018 near 1.59.

The paper gives no learning rate. These are those of MMSegmentation (AdamW, 6e-5 for a batch of 16, decay 0.01, linear
to 0 after 1,500 steps of warm-up, scale times 0.5 to 2, crops of 512, colours, stochastic depth 0.3). Its rule that no
class may fill over three quarters of a crop is left out; biases do not decay here, tables of relative positions do.
"""

from robust_compress import settings

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
ADE20K = "masks(path=ADEChallengeData2016,masks=annotations/split,classes=ade150,shift=1)"


def get_config(arg=None):
  key, _, codecs = (arg or "codecs=cheng2020-attn+mbt2018+bpg+webp").partition("=")
  if key != "codecs":
    raise ValueError(f"argument {arg!r}; expected codecs=bpg+webp or others of `robust-compress list codecs`")
  config = settings.default_config()
  config.title = "Janeiro 2023: UPerNet with Swin-T on ADE20K from 0.1 to 2 bits per pixel"
  config.task = "segmentation"
  config.models = ("upernet_swin_tiny.mmseg_ade20k",)
  config.test_data = f"{ADE20K}:validation"
  config.train_data = f"{ADE20K}:training"
  config.points = tuple(f"{codec}@{rate}bpp" for codec in codecs.split("+") for rate in RATES)
  config.protocols = ("baseline", "shifted", "finetuned", "control")
  config.recipe = settings.recipe_config(
    steps=160_000,
    batch_size=16,
    optimizer="adamw",
    learning_rate=6e-5,
    schedule="poly",
    warmup=1_500 / 160_000,
    weight_decay=0.01,
    jitter=(0.5, 2.0),
    crop_size=512,
    colour=1.0,
    dropout=0.3,
  )
  config.batch_size = 16
  config.lock()
  return config
