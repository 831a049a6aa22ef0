"""Makes bpg.npz: files that Bellard's bpgenc writes of one small picture, in every form, and bpgdec's pixels of them.

    PYTHONPATH=. python tests/golden/make_bpg.py

Needs bpgenc and bpgdec 0.9.8 on PATH, built with x265. Writes beside itself. The picture is one of `scenes`, of odd
sides, so that halved chroma and the edges of blocks come into it. (Narrower ones of 10 bits crash bpgenc.)
"""

import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image, ImageCms

from robust_compress.data.scenes import Scenes

SHAPE = 21, 65
CASES = {
  "420": "-f 420",
  "422": "-f 422",
  "444": "-f 444",
  "420_mpeg2": "-f 420_video",
  "422_mpeg2": "-f 422_video",
  "420_10bit": "-f 420 -b 10",
  "422_mpeg2_10bit": "-f 422_video -b 10",
  "444_10bit": "-f 444 -b 10",
  "rgb": "-c rgb",
  "ycgco": "-c ycgco -f 444",
  "bt709": "-c ycbcr_bt709 -f 420",
  "bt2020_10bit": "-c ycbcr_bt2020 -f 444 -b 10",
  "limited": "-limitedrange -f 420",
  "limited_10bit": "-limitedrange -f 444 -b 10 -c ycbcr_bt709",
  "lossless": "-lossless",
  "grey": "",
  "grey_10bit": "-b 10",
  "alpha": "-f 420",
  "hash": "-hash",
  "metadata": "-keepmetadata",
}


def picture(case: str) -> Image.Image:
  rgb = Scenes("test", size=96).picture(3).clip[0][24 : 24 + SHAPE[0], 12 : 12 + SHAPE[1]]
  if case.startswith("grey"):
    return Image.fromarray(rgb).convert("L")
  if case == "alpha":
    return Image.fromarray(np.dstack([rgb, np.linspace(0, 255, rgb[..., 0].size).reshape(SHAPE).astype(np.uint8)]))
  return Image.fromarray(rgb)


def main() -> None:
  arrays = {}
  for case, options in CASES.items():
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if case == "metadata" else None
      picture(case).save(folder / "in.png", icc_profile=profile)
      encode = ["bpgenc", "-q", "30", "-m", "8", *options.split(), "-o", "file.bpg", "in.png"]
      subprocess.run(encode, cwd=folder, check=True)
      subprocess.run(["bpgdec", "-o", "out.png", "file.bpg"], cwd=folder, check=True)
      arrays[f"{case}/file"] = np.frombuffer((folder / "file.bpg").read_bytes(), np.uint8)
      Image.open(folder / "out.png").convert("RGB").save(folder / "rgb.png", optimize=True)  # alpha is left out
      arrays[f"{case}/png"] = np.frombuffer((folder / "rgb.png").read_bytes(), np.uint8)
  np.savez(pathlib.Path(__file__).with_name("bpg.npz"), **arrays)


if __name__ == "__main__":
  main()
