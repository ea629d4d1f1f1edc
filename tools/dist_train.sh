#!/usr/bin/env bash
# Train with several processes on this machine, or with the same call on each of several machines.
#   bash tools/dist_train.sh CONFIG NUM_PROCS [ARGS of tools/train.py]
# Variables: NNODES, NODE_RANK, MASTER_ADDR, PORT.
# SIGTERM or SIGUSR1: the processes save at the next step, and the status is 75.
set -euo pipefail
if (($# < 2)); then
    echo "usage: bash $0 CONFIG NUM_PROCS [ARGS]" >&2
    exit 2
fi
config=$1
procs=$2

# exec: a signal to this script is one to the launcher, which hands it on.
exec python "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$procs" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
