"""The command line: what it says of itself, and how it ends."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from robust_compress import codecs, main, models, protocols, store, study, tasks
from robust_compress.data import catalogue
from robust_compress.types import StoreError

TESTS = pathlib.Path(__file__).parent
CONFIG = f"--config={TESTS / 'tiny_sweep.py'}"
COMMANDS = (*main.VERBS, "list", "export", "rd", "audit", "codec")


def call(capsys, *arguments):
  """(exit status, standard output, standard error) of a command, run in this process."""
  status = 0
  try:
    main.main(list(map(str, arguments)))
  except SystemExit as end:
    status = end.code or 0
  output, errors = capsys.readouterr()
  return status, output, errors


# ------------------------------------------------------------------------------------------------- help


def test_help_names_every_command(capsys):
  status, output, _ = call(capsys, "--help")
  assert status == 0
  for command in COMMANDS:
    assert f"\n    {command} " in output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(capsys, command):
  status, output, _ = call(capsys, command, "--help")
  assert status == 0
  parser = next(action for action in main._parser()._actions if action.dest == "command").choices[command]
  for action in parser._actions:
    assert all(option in output for option in action.option_strings)
    assert action.help or action.choices, f"{command}: {action.dest} is not explained"
  if command in main.VERBS:
    assert "--config.key=value" in output


def test_python_dash_m():
  command = [sys.executable, "-m", "robust_compress", "list", "tasks"]
  done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True)
  assert "classification" in done.stdout


# ------------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize(
  ("what", "names"),
  [
    ("codecs", ["none", *codecs.CODECS]),
    ("models", list(models.MODELS)),
    ("datasets", list(catalogue.described())),
    ("tasks", list(tasks.TASKS)),
    ("protocols", list(protocols.PROTOCOLS)),
  ],
)
def test_lists_have_a_line_for_everything(capsys, what, names):
  status, output, _ = call(capsys, "list", what)
  head, *lines = output.splitlines()
  assert status == 0
  assert len(lines) == len(names)
  assert all(line.startswith(f"{name} ") for line, name in zip(lines, names, strict=True))
  assert all(column in head for column in {"models": ["parameters", "input", "published"]}.get(what, []))


def test_listed_scores_say_where_they_stand(capsys):
  _, output, _ = call(capsys, "list", "models")
  for line in output.splitlines()[1:]:
    published = models.load_model(line.split()[0]).published
    assert published is None or (f"{100 * published.score:.1f} %" in line and published.source in line)


# ----------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
  ("arguments", "text"),
  [
    (["rnu"], "rnu"),
    ([], "COMMAND"),
    (["list", "codec"], "codecs"),
    (["list", "codecs", "--config.batch_size=2"], "--config.batch_size"),
    (["plan", CONFIG], "--workdir"),
    (["plan", CONFIG, "--workdir={tmp}", "--worker=3"], "--worker=3"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.batch_siez=2"], "batch_size"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.recipe.learning_rat=2"], "learning_rate"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.batch_size=many"], "many"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.points=('jpg@5',)"], "did you mean 'jpeg'"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.points=('jpeg@0',)"], "quality runs from 1 to 100"),
    (["plan", CONFIG, "--workdir={tmp}", "--config.test_data=scenes(siez=32):test"], "did you mean 'size'"),
    (["plan", "--config=nowhere.py", "--workdir={tmp}"], "nowhere.py"),
    (["export", "--workdir={tmp}", "--weights=nothing", "--output={tmp}/a.safetensors"], "nothing"),
  ],
  ids=lambda value: " ".join(value)[:50].replace(str(TESTS), "") if isinstance(value, list) else "",
)
def test_a_wrong_command_ends_in_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, text):
  monkeypatch.syspath_prepend(TESTS)
  status, output, errors = call(capsys, *(argument.format(tmp=tmp_path) for argument in arguments))
  assert status == 2
  assert output == ""
  assert text in errors.splitlines()[-1]
  assert "Traceback" not in errors
  assert errors.startswith("usage: ") or len(errors.splitlines()) == 1  # argparse puts the usage before its line


def test_a_locked_workdir_is_told_in_one_line(capsys, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(TESTS)
  monkeypatch.setattr(store, "lock", lambda workdir: (_ for _ in ()).throw(StoreError(f"{workdir} is in use")))
  status, _, errors = call(capsys, "compress", CONFIG, f"--workdir={tmp_path}")
  assert (status, errors) == (2, f"robust-compress: {tmp_path} is in use\n")


def test_ctrl_c_says_that_the_same_command_goes_on(capsys, tmp_path, monkeypatch):
  def interrupted(self):
    raise KeyboardInterrupt

  monkeypatch.syspath_prepend(TESTS)
  monkeypatch.setattr(study.Study, "run", interrupted)
  status, _, errors = call(capsys, "run", CONFIG, f"--workdir={tmp_path}")
  assert status == 130
  assert errors.strip() == "stopped; the same command goes on from here"


# ----------------------------------------------------------------------------------------------- the verbs


def test_the_verbs_one_by_one_are_run(capsys, tmp_path, monkeypatch):
  """`plan` shows what each leaves to do; `report` at the end prints the page's path and nothing else."""
  monkeypatch.syspath_prepend(TESTS)
  workdir = f"--workdir={tmp_path}"
  assert "2 cells, 0 done" in call(capsys, "plan", CONFIG, workdir)[1]
  assert "to code      4 pictures at 1 points" in call(capsys, "plan", CONFIG, workdir)[1]
  for verb in ("compress", "train", "evaluate"):
    status, output, _ = call(capsys, verb, CONFIG, workdir)
    assert (status, output) == (0, "")
  assert "2 cells, 2 done" in call(capsys, "plan", CONFIG, workdir)[1]
  status, output, _ = call(capsys, "report", CONFIG, workdir)
  assert (status, output) == (0, f"{tmp_path / 'report' / 'report.html'}\n")
  assert (tmp_path / "log.txt").exists()
