"""What launches a study elsewhere: scripts by way of stand-ins for Slurm and gcloud, the sweep for real."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from robust_compress import store
from robust_compress.types import SpecError

TESTS = pathlib.Path(__file__).parent
LAUNCH = TESTS.parent / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
SWEEP_CONFIG = TESTS / "tiny_sweep.py"


def program(folder, name, body):
  """An executable shell script."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  path.write_text(f"#!/usr/bin/env bash\n{body}\n")
  path.chmod(0o755)
  return path


def shell(script, *arguments, cwd, **environment):
  """The script with the stand-ins of cwd/bin first on the path, and nothing of this machine's Slurm or gcloud."""
  kept = {
    name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TPU", "ZONE", "PROJECT"))
  }
  environment = {**kept, "PATH": f"{cwd / 'bin'}:{os.environ['PATH']}", "HOME": str(cwd / "home"), **environment}
  return subprocess.run([script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_say_how_they_are_used(script, tmp_path):
  assert os.access(script, os.X_OK)
  assert subprocess.run(["bash", "-n", script]).returncode == 0
  if checker := shutil.which("shellcheck"):
    assert subprocess.run([checker, script]).returncode == 0
  done = shell(script, cwd=tmp_path)
  assert done.returncode == 2
  assert "usage:" in done.stderr


# ------------------------------------------------------------------------------------------------- Slurm


@pytest.fixture
def slurm(tmp_path):
  """Stand-ins: srun runs its task and notes how it was called, scontrol notes it too."""
  program(tmp_path / "bin", "srun", f'echo "srun $*" >> {tmp_path}/calls\nwhile [[ $1 == --* ]]; do shift; done\n"$@"')
  program(tmp_path / "bin", "scontrol", f'echo "scontrol $*" >> {tmp_path}/calls')
  return tmp_path


def test_slurm_starts_one_step_and_keeps_its_status(slurm):
  program(slurm / ".venv/bin", "robust-compress", "printf '%s\\n' \"$@\"; exit 3")
  arguments = ("run", "--config=a.py:x y", "--workdir=w", "--config.points=('jpeg@5','jpeg@50')")
  done = shell(LAUNCH / "slurm.sh", *arguments, cwd=slurm, SLURM_JOB_ID="7", SLURM_GPUS_ON_NODE="8")
  assert done.returncode == 3
  assert done.stdout.splitlines() == list(arguments)
  [call] = (slurm / "calls").read_text().splitlines()
  assert call.startswith("srun --kill-on-bad-exit=1 --gpu-bind=none .venv/bin/robust-compress run")


def test_slurm_asks_for_another_turn_before_the_time_is_up(slurm):
  """Slurm sends USR1 to the script (#SBATCH --signal=B:USR1); the task goes on until Slurm itself ends it."""
  program(slurm / ".venv/bin", "robust-compress", f"touch {slurm}/started; sleep 1; echo the task has ended")
  environment = {**os.environ, "PATH": f"{slurm / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
  command = [LAUNCH / "slurm.sh", "run"]
  process = subprocess.Popen(command, cwd=slurm, env=environment, stdout=subprocess.PIPE, text=True)
  until(lambda: (slurm / "started").exists())
  process.send_signal(signal.SIGUSR1)
  output, _ = process.communicate(timeout=30)
  assert process.returncode == 0
  assert "the task has ended" in output
  assert (slurm / "calls").read_text().splitlines()[-1] == "scontrol requeue 7"


def test_slurm_without_the_program_says_how_to_get_it(slurm):
  done = shell(LAUNCH / "slurm.sh", "run", cwd=slurm)
  assert done.returncode == 2
  assert "make install" in done.stderr
  assert not (slurm / "calls").exists()


def test_slurm_header_stands_before_the_first_command():
  """sbatch reads no #SBATCH line after one."""
  lines = (LAUNCH / "slurm.sh").read_text().splitlines()
  first_command = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
  directives = [index for index, line in enumerate(lines) if line.startswith("#SBATCH")]
  assert directives
  assert max(directives) < first_command


# --------------------------------------------------------------------------------------------------- TPU


@pytest.fixture
def pod(tmp_path):
  """A gcloud that notes its arguments and runs the remote command in the worker's home directory."""
  body = f"""printf '%s\\n' "$@" >> {tmp_path}/calls
for argument in "$@"; do [[ $argument == --command=* ]] && command=${{argument#--command=}}; done
[[ -z ${{command:-}} ]] || (cd "$HOME" && bash -c "$command")"""
  program(tmp_path / "bin", "gcloud", body)
  (tmp_path / "home" / "robust_compress_run").mkdir(parents=True)
  return tmp_path


def test_tpu_runs_the_command_on_all_workers(pod):
  body = "echo auto=$JAX_COORDINATOR_ADDRESS; printf '%s\\n' \"$@\"; exit 3"
  program(pod / "home/robust_compress_run/.venv/bin", "robust-compress", body)
  arguments = ("run", "--config=a.py:x y", "--workdir=/mnt/w", "--config.points=('jpeg@5','jpeg@50')")
  done = shell(LAUNCH / "tpu_pod.sh", *arguments, cwd=pod, TPU="pod", ZONE="zone", PROJECT="project")
  assert done.returncode == 3
  assert done.stdout.splitlines() == ["auto=auto", *arguments]
  called = (pod / "calls").read_text().splitlines()
  assert called[:5] == ["compute", "tpus", "tpu-vm", "ssh", "pod"]
  assert {"--zone=zone", "--project=project", "--worker=all"} <= set(called)
  watched = shell(LAUNCH / "tpu_pod.sh", "watch", cwd=pod, TPU="pod", ZONE="zone")
  assert watched.stdout == done.stdout


def test_tpu_stop_ends_what_run_started(pod):
  program(pod / "home/robust_compress_run/.venv/bin", "robust-compress", "exec sleep 60")
  environment = {**os.environ, "PATH": f"{pod / 'bin'}:{os.environ['PATH']}", "HOME": str(pod / "home")}
  command = [LAUNCH / "tpu_pod.sh", "run"]
  started = subprocess.Popen(command, cwd=pod, env={**environment, "TPU": "pod", "ZONE": "zone"})
  pid = pod / "home/robust_compress_run/pid"
  until(lambda: pid.exists() and pid.read_text().strip())
  assert shell(LAUNCH / "tpu_pod.sh", "stop", cwd=pod, TPU="pod", ZONE="zone").returncode == 0
  assert started.wait(timeout=30) != 0


def test_tpu_install_copies_the_last_commit(pod):
  """The archive is unpacked where the run will be; make and pip stand in for the minutes they take."""
  checkout = pod / "checkout"
  (checkout / "launch").mkdir(parents=True)
  shutil.copy(LAUNCH / "tpu_pod.sh", checkout / "launch")
  (checkout / "README.md").write_text("the project")
  git = ["git", "-C", checkout, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
  for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
    subprocess.run([*git, *arguments], check=True)
  copying = 'for last; do :; done\nif [[ $4 == scp ]]; then cp "$5" "$HOME/${6#*:}"; fi'
  with open(pod / "bin" / "gcloud", "a") as file:
    file.write(f"{copying}\n")
  program(pod / "bin", "make", f'echo "make $*" >> {pod}/made')
  program(pod / "home/robust_compress_run/.venv/bin", "python", f'echo "python $*" >> {pod}/made')
  done = shell(checkout / "launch" / "tpu_pod.sh", "install", cwd=pod, TPU="pod", ZONE="zone", PYTHON="python3.12")
  assert done.returncode == 0, done.stderr
  assert (pod / "home/robust_compress_run/README.md").read_text() == "the project"
  assert (pod / "made").read_text().splitlines() == [
    "make install PYTHON=python3.12",
    "python -m pip install --quiet --editable .[tpu]",
  ]


# ------------------------------------------------------------------------------------------------- sweep


@pytest.fixture(scope="module")
def sweep():
  spec = importlib.util.spec_from_file_location("sweep", LAUNCH / "sweep.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def as_user(monkeypatch):
  """Children find the package and the tests' model wherever they start."""
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))


def until(condition, timeout_s=30):
  end = time.monotonic() + timeout_s
  while not condition():
    assert time.monotonic() < end, "waited in vain"
    time.sleep(0.02)


def test_a_sweep_runs_every_point_and_again_does_nothing_twice(sweep, as_user, tmp_path, capfd):
  arguments = [f"--config={SWEEP_CONFIG}", f"--directory={tmp_path}", "--jobs=2", "--config.batch_size=2"]
  assert sweep.main(arguments) == 0
  one, two = sorted(path for path in tmp_path.iterdir() if path.is_dir())
  rows = {path.name: store.Store(path).rows() for path in (one, two)}
  assert sorted(map(len, rows.values())) == [2, 3]
  assert all((path / "report" / "report.html").exists() for path in (one, two))
  assert "(2 of 2)" in capfd.readouterr().out
  written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/rows/*.json")}
  assert sweep.main(arguments) == 0
  assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/rows/*.json")} == written


def test_names_are_folders_that_tell_points_apart(sweep):
  assert sweep.name_of({"recipe.learning_rate": 0.1, "on_bad": "skip"}) == "recipe.learning_rate=0.1,on_bad=skip"
  names = [sweep.name_of({"points": points}) for points in (("jpeg@5",), ("jpeg@5/",), ("jpeg@5",) * 50)]
  assert len(set(names)) == 3
  assert all(len(name) < 120 and "/" not in name for name in names)


@pytest.mark.parametrize(
  ("body", "text"),
  [
    ("", "has no sweep"),
    ("def sweep():\n  yield {'recipe.learning_rat': 0.1}", "learning_rate"),
    ("def sweep():\n  yield {'batch_size': 'many'}", "batch_size"),
    ("def sweep():\n  yield {'batch_size': 2}\n  yield {'batch_size': 2}", "twice"),
  ],
)
def test_a_wrong_sweep_starts_nothing(sweep, tmp_path, body, text):
  config = tmp_path / "config.py"
  config.write_text(
    f"from robust_compress.settings import default_config as get\nget_config = lambda arg=None: get()\n{body}"
  )
  with pytest.raises(SpecError, match=text):
    sweep.plan(str(config), tmp_path / "runs", [])
  assert sweep.main([f"--config={config}", f"--directory={tmp_path / 'runs'}"]) == 2
  assert not (tmp_path / "runs").exists()


def jobs_of(sweep, folder, *codes):
  return [sweep.Job(f"{i}", [sys.executable, "-c", code], folder / f"{i}") for i, code in enumerate(codes)]


def test_a_failed_point_is_told_with_its_last_line_and_the_others_go_on(sweep, tmp_path, capsys):
  jobs = jobs_of(sweep, tmp_path, "print('why'); raise SystemExit(3)", "", "")
  assert sweep.run(jobs, ["a"]) == jobs[:1]
  lines = capsys.readouterr().out.splitlines()
  assert any("FAILED 0" in line and "status 3" in line and "why" in line for line in lines)
  assert sum("done" in line for line in lines) == 2


def test_each_gpu_has_one_process_at_a_time(sweep, tmp_path):
  code = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], time.time()); time.sleep(.2); print(time.time())"
  jobs = jobs_of(sweep, tmp_path, *[code] * 4)
  assert sweep.run(jobs, ["2", "5"], on_gpus=True) == []
  spans = {"2": [], "5": []}
  for job in jobs:
    gpu, start, end = (job.directory / "output.txt").read_text().split()
    spans[gpu].append((float(start), float(end)))
  for used in map(sorted, spans.values()):
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(used))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_sweep_stops_its_processes(tmp_path, number):
  code = f"import pathlib, os, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
  script = f"""
import pathlib, sys
sys.path.insert(0, {str(LAUNCH)!r})
import sweep
command, folder = [sys.executable, "-c", {code!r}], pathlib.Path({str(tmp_path)!r}) / "jobs"
sweep.plan = lambda *_: [sweep.Job(name, command, folder / name) for name in "abc"]
sys.exit(sweep.main(["--config=x", "--directory=y", "--jobs=2"]))
"""
  process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(TESTS.parent)})

  def pids():
    return [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]

  until(lambda: len(pids()) == 2)
  process.send_signal(number)
  assert process.wait(timeout=30) == 130
  assert len(pids()) == 2
  for pid in pids():
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)
