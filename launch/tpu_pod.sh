#!/usr/bin/env bash
# A study on a TPU VM or a pod slice: the same command on every worker, which together are one run.
#
#   export TPU=my-v5e-64 ZONE=us-west4-a            and PROJECT=… where gcloud has no default
#   launch/tpu_pod.sh install                       copies the last commit to all workers and installs it there
#   launch/tpu_pod.sh run --config=configs/reich2024_classification.py --config.data_dir=/mnt/shared/tfds \
#     --workdir=/mnt/shared/runs/reich              any command of robust-compress; Ctrl-C ends the watching, not the run
#   launch/tpu_pod.sh watch                         the log of all workers, until the run ends
#   launch/tpu_pod.sh stop                          ends it on all workers; run again goes on from there
#
# Before: gcloud, logged in, with its key in the agent (ssh-add ~/.ssh/google_compute_engine); a TPU made by
# `gcloud compute tpus tpu-vm create` whose image has make and Python 3.11 or newer (PYTHON=python3.12 …); a file system
# mounted at the same place on all workers, such as Filestore, for data and workdir. After a preemption make the TPU
# again, `install`, and `run` the same command: nothing on disk is done twice.

set -euo pipefail

if [[ $# -eq 0 || -z ${TPU:-} || -z ${ZONE:-} ]]; then
  echo "usage: TPU=name ZONE=zone launch/tpu_pod.sh install | watch | stop | run --config=FILE --workdir=DIR …" >&2
  exit 2
fi
where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"} --worker=all)
folder=robust_compress_run # all paths start at the home directory of the worker
watch="tail --pid=\$(cat $folder/pid) --lines=+1 --follow $folder/log"

on_all_workers() {
  gcloud compute tpus tpu-vm ssh "$TPU" "${where[@]}" --command="$1"
}

install() {
  archive=$(mktemp --suffix=.tar.gz)
  trap 'rm -f "$archive"' EXIT
  git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$TPU:$folder.tar.gz" "${where[@]}"
  on_all_workers "mkdir -p $folder && tar -xzf $folder.tar.gz -C $folder && cd $folder \
&& make install PYTHON=${PYTHON:-python3} && .venv/bin/python -m pip install --quiet --editable '.[tpu]'"
}

# The run outlives the connection; while that lasts its log is shown, and its status is this script's.
launch() {
  on_all_workers "cd $folder && : > log && { JAX_COORDINATOR_ADDRESS=auto nohup .venv/bin/robust-compress \
$(printf '%q ' "$@")>> log 2>&1 < /dev/null & } && echo \$! > pid && cd && $watch && wait \$!"
}

case $1 in
  install) install ;;
  watch) on_all_workers "$watch" ;;
  stop) on_all_workers "kill \$(cat $folder/pid)" ;;
  *) launch "$@" ;;
esac
