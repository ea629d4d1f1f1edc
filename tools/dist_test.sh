#!/usr/bin/env bash
# Test with several processes on this machine, or with the same call on each of several machines.
#   bash tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCS [ARGS of tools/test.py]
# Variables: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if (($# < 3)); then
    echo "usage: bash $0 CONFIG CHECKPOINT NUM_PROCS [ARGS]" >&2
    exit 2
fi
config=$1
checkpoint=$2
procs=$3

python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$procs" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
