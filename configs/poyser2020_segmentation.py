"""Poyser 2020, table I: SegNet on Cityscapes under JPEG, before and after training on compressed pictures.

    robust-compress plan --config=configs/poyser2020_segmentation.py --config.data_dir=DATA --workdir=DIR
    robust-compress run  --config=configs/poyser2020_segmentation.py --config.data_dir=DATA --workdir=DIR

Needs Cityscapes' leftImg8bit and gtFine in DATA/cityscapes, and torchvision's vgg16_bn-6c64b313.pth in DATA, from which
the encoder starts (plans look for it too). SegNet is trained on the originals and then further at each of five
qualities: 6 weights of 33,000 steps of 12 pictures, 198,000 steps together. At 3 steps a second a training takes 3
hours; --config.recipe.gradient_accumulation=2 halves what it holds in memory. Not run by us yet: there is no Cityscapes
where we build.

The table's reference point is JPEG 95 in place of originals, and its row at 95 is the same before and after; here
nothing is trained at 95, and the originals have a row of their own. The table gives mIoU of 45.4 at 95, falling to 26.5
at quality 5 before and to 37.4 after; the report draws all of its numbers. It has no control, so that part of what is
gained may be the longer training: --config.protocols="('baseline','shifted','finetuned','control')" tells.

Printed are 33,000 "epochs" (iterations: 133 epochs), a batch of 12, a fixed rate of 0.1 and momentum 0.9. The paper
does not say at which size SegNet sees 1024×2048 (here 512×1024, after the codec), whether pictures are flipped (here
they are), nor whether weights decay or classes are weighed (here neither).
"""

from robust_compress import settings

CITYSCAPES = "masks(path=cityscapes,naming=cityscapes)"
RECIPE = {"steps": 33_000, "batch_size": 12, "learning_rate": 0.1, "schedule": "constant", "crop_scale": None}


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "Poyser 2020: SegNet on Cityscapes under JPEG"
  config.task = "segmentation"
  config.models = ("segnet_cityscapes.vgg16_bn(start=vgg16_bn-6c64b313.pth)",)
  config.test_data, config.train_data = f"{CITYSCAPES}:val", f"{CITYSCAPES}:train"
  config.points = ("jpeg@5", "jpeg@10", "jpeg@15", "jpeg@50", "jpeg@75", "jpeg@95")
  config.finetune_points = config.points[:-1]
  config.protocols = ("baseline", "shifted", "finetuned")
  config.base_recipe = settings.recipe_config(**RECIPE)
  config.recipe = settings.recipe_config(**RECIPE)
  config.batch_size = 8
  config.lock()
  return config
