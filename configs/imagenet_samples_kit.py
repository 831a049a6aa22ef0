"""SqueezeNet 1.0 as published on 250 ImageNet pictures under JPEG and learned codecs, by labels and against itself.

    robust-compress run --config=configs/imagenet_samples_kit.py --config.data_dir=KIT --workdir=runs/samples

KIT is a folder with imagenet_samples/ (pictures and labels.csv) and weights/squeezenet1_0/squeezenet1_0_tv.pth; reading
the latter needs the extra `torch`. One pass over 250 pictures a setting: 12 minutes on 2 CPU cores beside other work.
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "SqueezeNet 1.0 on 250 ImageNet pictures under JPEG and learned codecs"
  config.data_dir = "../shared/kit"
  config.models = ("squeezenet1_0.tv_in1k(weights=weights/squeezenet1_0/squeezenet1_0_tv.pth)",)
  config.test_data = "csv(path=imagenet_samples,resize=256,crop=224,interpolation=bilinear,input=asis):all"
  config.points = (
    *(f"jpeg@{quality}" for quality in (5, 10, 15, 30, 50, 75, 95)),
    *(f"{codec}@{quality}" for codec in ("mbt2018-mean", "mbt2018") for quality in (1, 3, 5)),
  )
  config.protocols = ("baseline", "shifted", "relative")
  config.batch_size = 50
  config.lock()
  return config
