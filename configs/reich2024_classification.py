"""Reich 2024, classification: its nine classifiers on ImageNet under JPEG 1 to 99, by labels and against themselves.

    robust-compress plan --config=configs/reich2024_classification.py --config.data_dir=TFDS --workdir=DIR
    robust-compress run  --config=configs/reich2024_classification.py:resnet50.a1_in1k --config.data_dir=TFDS …

Needs imagenet2012 prepared by TFDS and the hub's weights. 99 qualities × 50,000 pictures are coded once for all
models; each model then makes 100 passes. An accelerator at 5,000 pictures a second needs about 17 minutes a model.
Not run by us yet: there is no ImageNet where we build.

The codec sees pictures of 224×224 (shorter side to 256, bicubic as timm, centre crop), and the models are fed those
as they are. Identifiers are what the paper ran, not how its table names them ("ResNet-18" there is resnet50, and so
on), with the tags that timm's `pretrained=True` stands for. The text gives 79.0 top-1 for resnet50 uncoded, 3.1 less
at quality 80 and 1.9 less at 90, and swin_base falling from about 83 to below 20 under strong compression.
"""

from robust_compress import settings

MODELS = (
  "resnet50.a1_in1k",
  "resnet101.a1h_in1k",
  "resnet152.a1h_in1k",
  "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
  "vit_small_patch16_224.augreg_in21k_ft_in1k",
  "vit_base_patch16_224.augreg2_in21k_ft_in1k",
  "swin_tiny_patch4_window7_224.ms_in1k",
  "swin_small_patch4_window7_224.ms_in1k",
  "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
)


def get_config(arg=None):
  config = settings.default_config()
  config.title = "Reich 2024: nine classifiers on ImageNet under JPEG"
  config.models = (arg,) if arg else MODELS
  config.test_data = "imagenet2012(resize=256,crop=224,interpolation=bicubic,input=asis):validation"
  config.points = tuple(f"jpeg@{quality}" for quality in range(1, 100))
  config.protocols = ("baseline", "shifted", "relative")
  config.batch_size = 256
  config.on_bad = "skip"
  config.lock()
  return config
