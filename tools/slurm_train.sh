#!/usr/bin/env bash
# Train under Slurm, one task for each GPU.
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [ARGS of tools/train.py]
# Variables: GPUS (4 by default), GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -euo pipefail
if (($# < 3)); then
    echo "usage: bash $0 PARTITION JOB_NAME CONFIG [ARGS]" >&2
    exit 2
fi
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$gpus}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

srun -p "$1" \
    --job-name="$2" \
    --gres="gpu:$per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    "${srun_args[@]}" \
    python -u "$(dirname "$0")/train.py" "$3" --launcher slurm "${@:4}"
