"""Reich 2024, segmentation: its five segmenters on Cityscapes under JPEG 1 to 99, by labels and against themselves.

    robust-compress plan --config=configs/reich2024_segmentation.py --config.data_dir=DATA --workdir=DIR
    robust-compress run  --config=configs/reich2024_segmentation.py:weights=FOLDER --config.data_dir=DATA --workdir=DIR

Needs Cityscapes' leftImg8bit and gtFine in DATA/cityscapes, and in FOLDER, which is looked for in data_dir,
MMSegmentation's five files under their own names. 99 qualities × 500 pictures are coded once for all models; each model
then makes 100 passes, 50,000 pictures. An accelerator at 10 pictures a second needs 1.4 hours a model. Not run by us
yet: there is no Cityscapes where we build.

The paper evaluates "using a resolution of 769×769", the networks' training resolution, and does not say how pictures of
1024×2048 get there. Here the centre is cut out, which keeps the scale that the networks were trained at and the
proportions: the codec sees 769×769 and the networks are fed that as it is. Pictures squeezed to that size instead are
--config.test_data="masks(path=cityscapes,naming=cityscapes,resize=769x769,input=asis):val". Either way numbers by
labels are not those of whole pictures through windows, which MMSegmentation states.

The text gives an mIoU against themselves below 10 at quality 1, little loss above 90, and slightly more robustness of
large backbones; bounds and orders are not drawn. The paper's identifiers are newer names of the same files: its
deeplabv3_r50-d8_4xb2-40k_cityscapes-769x769 is deeplabv3_r50-d8_769x769_40k_cityscapes.
"""

from robust_compress import settings
from robust_compress.models import MODELS as TABLE

MODELS = (
  "deeplabv3_r18-d8.mmseg_cityscapes769",
  "deeplabv3_r50-d8.mmseg_cityscapes769",
  "deeplabv3_r101-d8.mmseg_cityscapes769",
  "upernet_r50.mmseg_cityscapes769",
  "upernet_r101.mmseg_cityscapes769",
)


def get_config(arg=None):
  key, _, folder = (arg or "weights=").partition("=")
  if key != "weights":
    raise ValueError(f"argument {arg!r}; expected weights=FOLDER, with MMSegmentation's files")
  config = settings.default_config()
  config.title = "Reich 2024: five segmenters on Cityscapes under JPEG"
  config.task = "segmentation"
  files = (TABLE[name].source.partition(":")[2] for name in MODELS)
  config.models = tuple(f"{n}(weights={folder}/{f})" if folder else n for n, f in zip(MODELS, files, strict=True))
  config.test_data = "masks(path=cityscapes,naming=cityscapes,crop=769,input=asis):val"
  config.points = tuple(f"jpeg@{quality}" for quality in range(1, 100))
  config.protocols = ("baseline", "shifted", "relative")
  config.batch_size = 8
  config.lock()
  return config
