"""The table of entropy coders: modules with an `Encoder`, a `Decoder` and a `fingerprint` each.

They write other strings of the same symbols; a blob names its own (`container.CODERS`).
"""

from __future__ import annotations

from types import ModuleType

from robust_compress.codecs.learned import coder, tfc
from robust_compress.specs import nearest

CODERS: dict[str, tuple[ModuleType, str]] = {
  "constriction": (coder, "the default; a range coder of 32-bit words"),
  "tfc": (tfc, "TensorFlow Compression's range coder, in an environment of its own: make tfc"),
}


def load_coder(name: str) -> ModuleType:
  """The module of a coder. Raises SpecError for an unknown one."""
  if name not in CODERS:
    raise nearest("coder", name, CODERS)
  return CODERS[name][0]
