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

address=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
restarts=${MAX_RESTARTS:-0}
meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="$address" --master_port="$port")
if ((restarts > 0)); then
    # At a fixed port, processes that are started again would find the addresses of the dead ones.
    meeting=(--rdzv_backend=c10d --rdzv_endpoint="$address:$port" --rdzv_id="$port")
fi

python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    "${meeting[@]}" \
    --nproc_per_node="$procs" \
    --max_restarts="$restarts" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
