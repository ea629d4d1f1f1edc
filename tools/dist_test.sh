#!/usr/bin/env bash
# Test with several processes on this machine, or with the same call on each of several machines.
#   bash tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCS [ARGS of tools/test.py]
# Variables: NNODES, NODE_RANK, MASTER_ADDR, PORT, MAX_RESTARTS (0 by default): how often all
# processes are started again when one of them dies; they go on with the videos that are left.
set -euo pipefail
if (($# < 3)); then
    echo "usage: bash $0 CONFIG CHECKPOINT NUM_PROCS [ARGS]" >&2
    exit 2
fi
config=$1
checkpoint=$2
procs=$3

# exec: a signal to this script is one to the launcher, which hands it on.
exec python "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$procs" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
