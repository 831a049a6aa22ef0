"""Three networks on ten ImageNet classes of 224×224, finetuned under JPEG and WebP: SqueezeNet, MobileNetV2, and Nano.

    robust-compress run --config=configs/imagenette_kit.py:squeezenet --config.data_dir=KIT --workdir=runs/imagenette

KIT is a folder with imagenette224/{train,val}/<wnid>/ and weights/; `:mobilenet_v2` and `:nano` are the others.
SqueezeNet and MobileNetV2 start from published weights and keep their 1000-way heads, with labels mapped by wnid;
MobileNetV2's batch norm is folded. Nano, which has batch norm, is first trained from random weights on the uncoded
pictures. Reading SqueezeNet's file needs the extra `torch`. Times on 2 CPU cores stand in results/README.md.

The pictures are stored as JPEG of quality 75, so the "original" is coded already; 500 of them are tested, which is few,
and one epoch (Nano: three) of finetuning is short.
"""

from robust_compress import settings, specs

POINTS = ("jpeg@5", "jpeg@10", "jpeg@20", "webp@1", "webp@10")
MODELS = {
  "squeezenet": "squeezenet1_0.tv_in1k(weights=weights/squeezenet1_0/squeezenet1_0_tv.pth)",
  "mobilenet_v2": "mobilenet_v2_tf.in1k(weights=weights/mobilenet_v2/mobilenet_v2_1.0_224_dequant_hwio.npz)",
  "nano": "nano.random",
}


def get_config(arg="squeezenet"):
  arg = arg or "squeezenet"
  if arg not in MODELS:
    raise specs.nearest("network of this study", arg, MODELS)
  config = settings.default_config()
  config.title = f"{arg} on ten ImageNet classes, finetuned under JPEG and WebP"
  config.data_dir = "../shared/kit"
  config.models = (MODELS[arg],)
  geometry = "" if arg == "nano" else ",input=asis"  # Nano is small: it sees the decoded pictures at 160×160
  config.test_data = f"folders(path=imagenette224{geometry}):val"
  config.train_data = f"folders(path=imagenette224{geometry}):train"
  config.points = (*POINTS, "jpeg@30", "jpeg@50", "webp@30", "webp@60")
  config.finetune_points = POINTS
  config.protocols = ("baseline", "shifted", "finetuned", "control")
  if arg == "nano":
    nano = {"optimizer": "adamw", "warmup": 0.1, "weight_decay": 0.05, "crop_scale": (0.35, 1.0)}
    config.base_recipe = settings.recipe_config(epochs=20.0, learning_rate=3e-3, **nano)
    config.recipe = settings.recipe_config(epochs=3.0, learning_rate=1e-3, **nano)
  else:
    rate = {"squeezenet": 1e-3, "mobilenet_v2": 2e-3}[arg]
    config.recipe = settings.recipe_config(
      epochs=1.0, learning_rate=rate, warmup=0.1, weight_decay=1e-4, clip_norm=1.0, crop_scale=(0.5, 1.0)
    )
  config.batch_size = 50
  config.lock()
  return config
