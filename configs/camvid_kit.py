"""A small segmenter of CamVid's streets, whose pictures are lossless, under JPEG, BPG and a learned codec.

    robust-compress run --config=configs/camvid_kit.py --config.data_dir=KIT --workdir=runs/camvid

KIT is a folder with camvid/{train,trainannot,val,valannot} as SegNet's tutorial has them, here 62 and 26 pictures of
480×360. The network is trained on the uncoded pictures from the encoder that learned rendered scenes, then finetuned on
each point, and as a control on the uncoded ones as long. So few pictures make wide intervals. Results and times on 2
CPU cores stand in results/README.md.
"""

from robust_compress import settings


def get_config(arg=None):
  del arg
  config = settings.default_config()
  config.title = "CamVid's streets, segmented under JPEG, BPG and a learned codec"
  config.task = "segmentation"
  config.data_dir = "../shared/kit"
  config.models = ("nano_seg.random(start=nano_scenes-8d788133.safetensors)",)
  data = "masks(path=camvid,images=split,masks=splitannot,classes=camvid11,ignore=11,input=asis)"
  config.test_data, config.train_data = f"{data}:val", f"{data}:train"
  finetuned = ("jpeg@5", "jpeg@10", "jpeg@15", "jpeg@50", "bpg@45", "mbt2018-mean@1")
  config.points = (*finetuned, "jpeg@25", "jpeg@75", "bpg@40", "bpg@35", "mbt2018-mean@3")
  config.finetune_points = finetuned
  config.protocols = ("baseline", "shifted", "relative", "finetuned", "control")
  common = {
    "batch_size": 8, "optimizer": "adamw", "warmup": 0.1, "weight_decay": 0.02, "jitter": (0.6, 1.5), "clip_norm": 5.0,
    "crop_size": 240,
  }  # fmt: skip
  config.base_recipe = settings.recipe_config(
    steps=900, learning_rate=2e-3, colour=0.5, ema=0.995, evaluate="ema", **common
  )
  config.recipe = settings.recipe_config(steps=120, learning_rate=5e-4, **common)
  config.batch_size = 4
  config.lock()
  return config
