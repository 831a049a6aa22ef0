"""Trains learned codecs as CompressAI's published weights were (Bégaint et al. 2020, arXiv:2011.03029).

    robust-compress run --config=configs/compressai2020.py:mbt2018-mean-3 --config.data_dir=DATA --workdir=runs/mean-3

The argument is NETWORK-QUALITY, with -ms-ssim for the other metric, as in cheng2020-gmm-6-ms-ssim. DATA holds
vimeo_septuplet/ and kodak/, each a folder of pictures; any other folder serves by
`--config.train_data="pictures(path=FOLDER):all"`.

256×256 crops that are neither resized nor flipped, batches of 16, Adam at 1e-4 for four million steps; CompressAI
halves the rate where the loss stays level, here it is halved at fixed steps. They state one or two weeks a network on a
GPU. Nothing of this was run, since it needs Vimeo90K; the result expected is the published curve of the network
(`robust-compress rd`).
"""

import re

from robust_compress import settings
from robust_compress.codecs.learned.networks import NETWORKS
from robust_compress.specs import nearest
from robust_compress.types import SpecError


def get_config(arg=None):
  network, quality, metric = _parsed(arg or "mbt2018-mean-3")
  config = settings.default_config()
  config.title = f"{network} at quality {quality}, trained for {metric}"
  config.task = "codec" if metric == "mse" else "codec-ms-ssim"
  config.models = (f"{network}(quality={quality},metric={metric},side=256)",)
  config.train_data = "pictures(path=vimeo_septuplet):all"
  config.test_data = "pictures(path=kodak):all"
  config.base_recipe = settings.recipe_config(
    steps=4_000_000,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-4,
    schedule="step",
    milestones=(0.7, 0.8, 0.85, 0.9, 0.95),
    decay=0.5,
    clip_norm=1.0,
    crop_scale=(),
    crop_zoom=(1.0, 1.0),
    flip=False,
  )
  config.checkpoint_every = 10_000
  config.protocols = ("baseline",)
  config.lock()
  return config


def _parsed(arg):
  """'cheng2020-gmm-6-ms-ssim' to (network, quality, metric)."""
  match = re.fullmatch(r"(?P<network>.+?)-(?P<quality>\d)(?P<metric>-ms-ssim)?", arg)
  if not match:
    raise SpecError(f"{arg!r}: expected NETWORK-QUALITY, as in mbt2018-mean-3 or cheng2020-gmm-6-ms-ssim")
  if match["network"] not in NETWORKS:
    raise nearest("network", match["network"], NETWORKS)
  return match["network"], int(match["quality"]), "ms-ssim" if match["metric"] else "mse"
