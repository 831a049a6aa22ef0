"""Reich 2024, fig. 9: DeepLabV3 on H.264 clips of Cityscapes, QP 0 to 51, by labels and against themselves.

    robust-compress plan --config=configs/reich2024_video_segmentation.py --config.data_dir=DATA --workdir=DIR
    robust-compress run  --config=configs/reich2024_video_segmentation.py:weights=FOLDER --config.data_dir=DATA \
        --workdir=DIR

Needs Cityscapes' leftImg8bit_sequence and gtFine in DATA/cityscapes, and in FOLDER, which is looked for in data_dir,
MMSegmentation's three files under their own names. 52 QPs × 500 clips of 8 frames are coded once for all models; each
model then makes 53 passes, 26,500 pictures. An accelerator at 20 pictures a second needs 22 minutes a model. Not run by
us yet: there is no Cityscapes where we build.

The codec sees clips of eight frames, every third one around the labelled one, cut to the middle 512×512, as one closed
group by the paper's own FFmpeg settings (4:4:4, as FFmpeg makes of PNG files). Rates are those of the whole clip. The
labelled frame, the sixth, is segmented as it comes out of the codec and scored; that the paper scores this one is our
reading of it, and its networks may have seen all eight.

The text gives an mIoU against themselves that changes little up to QP 15 and is below 40 above QP 40; bounds are not
drawn.
"""

from robust_compress import settings
from robust_compress.models import MODELS as TABLE

MODELS = tuple(f"deeplabv3_{depth}-d8.mmseg_cityscapes769" for depth in ("r18", "r50", "r101"))
CLIPS = "path=cityscapes/leftImg8bit_sequence,naming=cityscapes,masks=cityscapes/gtFine"


def get_config(arg=None):
  key, _, folder = (arg or "weights=").partition("=")
  if key != "weights":
    raise ValueError(f"argument {arg!r}; expected weights=FOLDER, with MMSegmentation's files")
  config = settings.default_config()
  config.title = "Reich 2024: DeepLabV3 on Cityscapes clips under H.264"
  config.task = "segmentation"
  files = (TABLE[name].source.partition(":")[2] for name in MODELS)
  config.models = tuple(f"{n}(weights={folder}/{f})" if folder else n for n, f in zip(MODELS, files, strict=True))
  config.test_data = f"frames({CLIPS},length=8,stride=3,frames=5,crop=512,input=asis):val"
  config.points = tuple(f"h264@{qp}" for qp in range(52))
  config.protocols = ("baseline", "shifted", "relative")
  config.batch_size = 16
  config.lock()
  return config
