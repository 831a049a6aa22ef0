"""What a study costs, against what it cannot avoid: coding every picture once, and every network on every picture.

    python benchmarks/grid.py [--small] [--n=192]

Two networks with random weights on n JPEG pictures of 256 pixels, on originals and at ten qualities of JPEG (protocols
baseline and shifted), from an empty workdir to report.html. Beside it, before and after: `compress` of the same
pictures at the ten qualities, and the bare compiled step times the number of batches. Target: at most 1.15 times their
sum; compiling, reading, decoding, scoring, intervals, rows and the report have to fit in the rest.

Also counts compilations of a network (target: one), codings of a picture at a point (one), and decodings of a coded
picture for a network (one).
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax
import networks
import pictures
from pictures import CountedJpeg
from result import Figure, finish

from robust_compress import compress, convert, models, settings, study, tasks
from robust_compress.codecs import load_codec
from robust_compress.data import sources

MODELS, SMALL_MODELS = ("resnet18.a1_in1k", "squeezenet1_0.tv_in1k"), ("nano.random", "squeezenet1_0.tv_in1k")
QUALITIES = (5, 10, 15, 20, 30, 40, 50, 65, 80, 95)
SIZE, BATCH = 256, 32
DATA = "folders(path=pictures):all"


def arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--small", action="store_true", help="a smoke test: few pictures and smaller networks")
  parser.add_argument("--n", type=int, default=192)
  args = parser.parse_args()
  args.models = SMALL_MODELS if args.small else MODELS
  args.n = BATCH if args.small else args.n // BATCH * BATCH  # whole batches: padding would count against the study
  return args


class Compilations:
  """How often XLA compiled a network's step, and the seconds of it, as jax reports them."""

  def __init__(self):
    self.n, self.wall_s = 0, 0.0
    jax.monitoring.register_event_duration_secs_listener(self._heard)

  def _heard(self, event: str, seconds: float, fun_name: str = "", **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration" and "step" in fun_name:
      self.n, self.wall_s = self.n + 1, self.wall_s + seconds


def prepare(folder: pathlib.Path, names: Sequence[str]) -> tuple[str, ...]:
  """Writes random weights in each model's foreign layout; returns the models as a config names them."""
  for name in names:
    model = models.load_model(name)
    arrays = convert.to_foreign(networks.random_variables(model), model.rules)
    convert.write_safetensors(folder / f"{name}.safetensors", arrays)
  return tuple(f"{name}(weights={name}.safetensors)" for name in names)


class Unavoidable:
  """Coding each picture once a point, and the bare steps: measured in turns with the study, the mean counts."""

  def __init__(self, folder: pathlib.Path, names: Sequence[str], n: int):
    self.folder, self.n_steps = folder, (1 + len(QUALITIES)) * n // BATCH
    task, specs = tasks.load_task("classification"), [models.load_model(name) for name in names]
    self.steps = [networks.bare_step(spec, task, networks.random_variables(spec), BATCH) for spec in specs]
    self.coding_s: list[float] = []
    self.inference_s: list[float] = []

  def measure(self) -> None:
    source, codec = sources.open_source(DATA, self.folder), load_codec("jpeg")
    with tempfile.TemporaryDirectory() as coded:
      start = time.perf_counter()
      for quality in QUALITIES:
        compress.compress(source, codec, quality, pathlib.Path(coded, str(quality)), progress=False)
      self.coding_s.append(time.perf_counter() - start)
    n_timed = max(self.n_steps // 10, 2)  # a tenth of what the study has to do
    for step in self.steps:
      networks.timed(step, 1)
    self.inference_s.append(sum(networks.timed(step, n_timed) / n_timed * self.n_steps for step in self.steps))


def run(folder: pathlib.Path, names: tuple[str, ...]) -> dict[str, float]:
  """Seconds of each verb of a study from an empty workdir."""
  config = settings.default_config()
  config.models, config.data_dir, config.test_data = names, str(folder), DATA
  config.points = tuple(f"pictures:CountedJpeg@{quality}" for quality in QUALITIES)
  config.batch_size, config.n_examples = BATCH, 0  # the report's example pictures are coded for the report
  seconds, start = {}, time.perf_counter()
  opened = study.Study(config, folder / "workdir")
  for verb in (opened.compress, opened.train, opened.evaluate, opened.report):
    verb()
    seconds[verb.__name__] = time.perf_counter() - start - sum(seconds.values())
  return seconds


def main() -> None:
  args = arguments()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    pictures.write(folder / "pictures", args.n, SIZE)
    names, unavoidable = prepare(folder, args.models), Unavoidable(folder, args.models, args.n)
    unavoidable.measure()
    compilations = Compilations()
    seconds = run(folder, names)
    n_compiled, compile_s = compilations.n, compilations.wall_s
    unavoidable.measure()
  coding_s, inference_s = statistics.mean(unavoidable.coding_s), statistics.mean(unavoidable.inference_s)
  coded, decoded = CountedJpeg.coded, CountedJpeg.decoded
  found = [
    Figure("study / (coding + bare inference)", sum(seconds.values()) / (coding_s + inference_s), "<=", 1.15),
    Figure("study, s", sum(seconds.values())),
    *(Figure(f"  {verb}, s", value) for verb, value in seconds.items()),
    Figure("  of which compiling, s", compile_s),
    Figure("coding alone, s", coding_s),
    Figure("bare inference, s", inference_s),
    Figure("compilations a network", n_compiled / len(names), "==", 1),
    Figure("codings a picture and point, most", max(coded.values()), "==", 1),
    Figure("codings a picture and point, mean", coded.total() / (args.n * len(QUALITIES)), "==", 1),
    Figure("decodings a coded picture and network, mean", decoded.total() / coded.total() / len(names), "==", 1),
  ]
  sizes = {"models": args.models, "pictures": args.n, "points": len(QUALITIES), "batch": BATCH}
  finish("grid", found, args.small, **sizes, device=networks.device())


if __name__ == "__main__":
  main()
