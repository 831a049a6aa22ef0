#!/usr/bin/env bash
# A study under Slurm, on one node or many.
#
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 --time=24:00:00 launch/slurm.sh \
#     run --config=configs/janeiro2023_classification.py --config.data_dir=/shared/tfds --workdir=/shared/runs/janeiro
#
# What follows the script's name is a robust-compress command. The working directory is where sbatch was called; the
# program there is .venv/bin/robust-compress (`make install`), or what the variable ROBUST_COMPRESS names. The workdir
# must lie on a file system that all nodes share.
#
#   one node          --ntasks-per-node=1: the one process uses all GPUs of the node
#   several nodes     --ntasks-per-node= as many as --gpus-per-node: one task a GPU. They find each other by Slurm's
#                     variables; each takes the GPU of its local rank, so GPUs must not be bound to tasks
#                     (no --gpus-per-task)
#   nodes of CPUs     --ntasks-per-node=1 and no --gpus-per-node
#
# Nothing is lost when the job ends early, for what is on disk is not done again. After a failed node or a preemption
# Slurm runs the script again (--requeue); two minutes before the time is up it asks for another turn itself.

#SBATCH --job-name=robust-compress
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

set -euo pipefail

if [[ $# -eq 0 ]]; then
  echo "usage: sbatch [options] launch/slurm.sh run --config=FILE --workdir=DIR …" >&2
  exit 2
fi
program=${ROBUST_COMPRESS:-.venv/bin/robust-compress}
if ! command -v "$program" > /dev/null; then
  echo "launch/slurm.sh: no program $program in $PWD; run 'make install' there, or set ROBUST_COMPRESS" >&2
  exit 2
fi

again() {
  echo "launch/slurm.sh: the time is nearly up; job $SLURM_JOB_ID goes on in another turn"
  scontrol requeue "$SLURM_JOB_ID"
}
trap again USR1

srun --kill-on-bad-exit=1 ${SLURM_GPUS_ON_NODE:+--gpu-bind=none} "$program" "$@" &
task=$!
status=0
wait "$task" || status=$?
while kill -0 "$task" 2> /dev/null; do # the wait was ended by the signal, not by the end of the task
  status=0
  wait "$task" || status=$?
done
exit "$status"
