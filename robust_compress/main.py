"""The command line: `robust-compress run --config=FILE[:arg] --workdir=DIR [--config.key=value …]`.

Thin on purpose: every command is one call of `study.Study`, of `trained.export`, of `inspect` or of a table. Errors
that a user can mend are printed as one line and exit with status 2.
"""

from __future__ import annotations

import argparse
import sys

from robust_compress.inspect.commands import add_parsers
from robust_compress.types import RobustCompressError, SpecError

VERBS = {
  "run": "plan, compress, train, evaluate and report; run again after any interruption, it finishes what is missing",
  "plan": "the cells, which are done, and what the rest will cost, before anything runs",
  "compress": "code the pictures that missing cells need",
  "train": "train the weights that missing cells need",
  "evaluate": "measure the missing cells",
  "report": "write report.html, PNG and CSV from the rows in the workdir",
}
CONFIG_HELP = """\
--config=FILE[:arg]    a Python file with get_config(arg); its docstring says what it does and costs
--config.key=value     overrides one value of the config, e.g. --config.recipe.steps=100
                       (tuples: --config.points="('jpeg@5','jpeg@50')")"""
LISTS = ("codecs", "models", "datasets", "tasks", "protocols")


def main(argv: list[str] | None = None) -> None:
  args, rest = _parser().parse_known_args(argv)
  overrides = [text for text in rest if text.startswith("--config.") and args.command in VERBS]
  unknown = [text for text in rest if text not in overrides]
  if getattr(args, "runner", ""):
    args.beam = [f"--runner={args.runner}", *unknown]
  elif unknown:
    _parser().error(f"unrecognized arguments: {' '.join(unknown)}")
  try:
    args.function(args, overrides)
  except RobustCompressError as error:
    sys.exit(_fail(error))
  except KeyboardInterrupt:
    print("\nstopped; the same command goes on from here", file=sys.stderr)
    sys.exit(130)


def _fail(error: Exception) -> int:
  print(f"robust-compress: {error}", file=sys.stderr)
  return 2


def _parser() -> argparse.ArgumentParser:
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(
    prog="robust-compress",
    allow_abbrev=False,
    description="Rate–accuracy curves of vision models under compression, and finetuning that repairs them.",
    epilog="robust-compress COMMAND --help says more of each command.",
  )
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
  for verb, text in VERBS.items():
    command = commands.add_parser(
      verb, help=text, description=f"{verb}: {text}.", epilog=CONFIG_HELP, formatter_class=raw
    )
    command.add_argument("--config", required=True, metavar="FILE[:arg]", help="the study")
    command.add_argument("--workdir", required=True, metavar="DIR", help="where everything is kept")
    command.add_argument("--replace", action="store_true", help="measure rows anew that other conditions made")
    if verb == "compress":
      runner = "code by Apache Beam: DirectRunner, FlinkRunner, …; Beam's own options may follow (launch/beam.md)"
      command.add_argument("--runner", default="", metavar="NAME", help=runner)
    command.set_defaults(function=_verb)
  command = commands.add_parser("list", help="what exists: " + ", ".join(LISTS))
  command.add_argument("what", choices=LISTS)
  command.set_defaults(function=_list)
  command = commands.add_parser("export", help="write finetuned weights as safetensors in timm or torchvision keys")
  command.add_argument("--workdir", required=True, metavar="DIR", help="of the study that trained them")
  command.add_argument("--weights", required=True, metavar="KEY", help="which; an unknown key lists what there is")
  command.add_argument("--output", required=True, metavar="FILE", help="a .safetensors file")
  command.add_argument("--half", action="store_true", help="as float16: half the size, and slightly other weights")
  command.set_defaults(function=_export)
  add_parsers(commands)
  return parser


def _verb(args: argparse.Namespace, overrides: list[str]) -> None:
  from robust_compress import settings, study

  config = settings.load_config(args.config, overrides)
  opened = study.Study(config, args.workdir, replace=args.replace, beam=_beam(args))
  result = getattr(opened, args.command)()
  if args.command in ("plan", "report", "run") and result is not None:
    print(result)


def _beam(args: argparse.Namespace) -> list[str]:
  """Options of Apache Beam, where a runner is named. Raises SpecError where Beam is not installed."""
  if not getattr(args, "runner", ""):
    return []
  try:
    import apache_beam  # noqa: F401
  except ImportError as error:
    raise SpecError(f"--runner needs apache-beam ({error}); pip install 'robust-compress[beam]'") from error
  return args.beam


def _list(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress import listing

  print(listing.table(args.what))


def _export(args: argparse.Namespace, _: list[str]) -> None:
  from robust_compress import trained

  trained.export(args.workdir, args.weights, args.output, args.half)
  print(args.output)


if __name__ == "__main__":
  main()
