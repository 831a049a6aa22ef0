"""Writes the pinned requirements file of the Python that runs it: `make lock`, once per supported Python.

A fresh virtual environment installs the project with its `dev` extra, and what stands in it is written down.
Names and versions only: an address would bind the file to one registry.
"""

import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).parent.parent
TENSORFLOW = "tensorflow{} ; platform_machine {}= 'x86_64' {} sys_platform {}= 'linux'"


def main() -> None:
  target = pathlib.Path(__file__).with_name(f"py3{sys.version_info.minor}.txt")
  with tempfile.TemporaryDirectory() as folder:
    venv.create(folder, with_pip=True)
    pip = [f"{folder}/bin/python", "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", f"{ROOT}[dev]"], check=True)
    frozen = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
  target.write_text("".join(f"{line}\n" for line in _portable(frozen.split())))
  print(f"{target}: {target.read_text().count('==')} packages")


def _portable(pins: list[str]) -> list[str]:
  """Drops the project and its installers; TensorFlow's CPU build exists for Linux on x86-64 only."""
  lines = []
  for pin in sorted(pins, key=str.lower):
    name, version = pin.replace("_", "-").lower().split("==")[0], pin.split("==")[1]
    if name in ("pip", "setuptools", "robust-compress"):
      continue
    if name == "tensorflow-cpu":
      lines += [
        TENSORFLOW.format(f"-cpu=={version}", "=", "and", "="),
        TENSORFLOW.format(f"=={version}", "!", "or", "!"),
      ]
    else:
      lines.append(pin)
  return lines


if __name__ == "__main__":
  main()
