"""Trains the learned codecs that are shipped: small networks with gain units, on pictures of the reality kit.

    python -m robust_compress.starting DIR/imagenet_samples DIR/camvid/train DIR/coco128x/images \\
      --output=DIR/start.safetensors
    robust-compress run --config=configs/codec_small.py:mbt2018-mean --config.data_dir=DIR --workdir=runs/codec_mean
    robust-compress export --workdir=runs/codec_mean --weights=KEY --output=DIR/mean.safetensors

    python -m robust_compress.starting DIR/imagenet_samples DIR/camvid/train DIR/coco128x/images \\
      --mean=DIR/mean.safetensors --output=DIR/start_context.safetensors
    robust-compress run --config=configs/codec_small.py:mbt2018 --config.data_dir=DIR --workdir=runs/codec_context

    python -m robust_compress.starting DIR/imagenet_samples DIR/camvid/train DIR/coco128x/images \\
      --network=cheng2020-gmm --output=DIR/start_mixture.safetensors
    robust-compress run --config=configs/codec_small.py:cheng2020-gmm --config.data_dir=DIR --workdir=runs/codec_mixture

DIR holds links to the folders of the kit. 440 photographs of three sets, stored as JPEG or PNG, of which crops are
reduced by up to 2.5; no Kodak picture is among them. `mbt2018-mean` and `cheng2020-gmm` start from principal
components, `mbt2018` as the `mbt2018-mean` that was trained before. What came of it, on which hardware and in what
time, stands on the cards in robust_compress/codecs/learned/shipped/; `export --half` wrote these.
"""

from robust_compress import settings
from robust_compress.specs import nearest

NETWORKS = {  # (widths, where training starts, steps, learning rate)
  "mbt2018-mean": ("levels=7,n=48,m=160", "start.safetensors", 9000, 6e-4),
  "mbt2018": ("levels=7,n=48,m=160", "start_context.safetensors", 7000, 2e-4),
  "cheng2020-gmm": ("levels=5,n=48,m=120", "start_mixture.safetensors", 7500, 5e-4),
}


def get_config(arg=None):
  network = arg or "mbt2018-mean"
  if network not in NETWORKS:
    raise nearest("network of this config", network, NETWORKS)
  widths, start, n_steps, learning_rate = NETWORKS[network]
  config = settings.default_config()
  config.title = f"A small {network} for many rates"
  config.task = "codec"
  config.models = (f"{network}({widths},mode=ste,start={start})",)
  config.train_data = "pictures(path=imagenet_samples+camvid/train+coco128x/images):all"
  config.test_data = "pictures(path=camvid/val):all"
  config.base_recipe = settings.recipe_config(
    steps=n_steps,
    batch_size=4,
    optimizer="adamw",
    learning_rate=learning_rate,
    warmup=0.02,
    final_factor=0.01,
    clip_norm=1.0,
    crop_scale=(),
    crop_zoom=(1.0, 2.5),
    ema=0.999,
    evaluate="ema",
  )
  config.checkpoint_every = 500
  config.protocols = ("baseline",)
  config.lock()
  return config
