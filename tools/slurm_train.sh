#!/usr/bin/env bash
# Train under Slurm, one task for each GPU.
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [ARGS of tools/train.py]
# Variables: GPUS (4 by default), GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
# Preemption: after SIGTERM or SIGUSR1 the training saves at its next step and ends with status 75.
# With SRUN_ARGS='--signal=USR1@600' Slurm sends the latter ten minutes before the time limit. Then
# this script, in a batch job (sbatch --requeue), puts the job back into the queue, and else calls
# srun again, REQUEUES times at most (100); both go on from the checkpoint.
set -euo pipefail
if (($# < 3)); then
    echo "usage: bash $0 PARTITION JOB_NAME CONFIG [ARGS]" >&2
    exit 2
fi
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$gpus}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

resume=()
# Made by the tasks when they have saved: Slurm may kill the others as soon as one of them has ended,
# and then tells another status than theirs. The tasks run in this folder, on a disk they share.
export GLUS_MM_PREEMPTED=$PWD/.preempted_$$
# A job that Slurm has started again goes on.
if ((${SLURM_RESTART_COUNT:-0} > 0)); then resume=(--resume); fi

for ((left = ${REQUEUES:-100}; ; left--)); do
    # srun hands signals on to its tasks; a batch job gets them here (sbatch --signal=B:USR1@600), the
    # first one maybe before it knows what to hand it on to.
    srun= asked=
    trap 'asked=1; [[ -z $srun ]] || kill -USR1 "$srun" 2>/dev/null || true' TERM USR1
    srun -p "$1" \
        --job-name="$2" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        "${srun_args[@]}" \
        python -u "$(dirname "$0")/train.py" "$3" --launcher slurm "${@:4}" "${resume[@]}" &
    srun=$!
    [[ -z $asked ]] || kill -USR1 "$srun" 2>/dev/null || true
    status=0
    wait "$srun" || status=$?
    # A signal ends the wait, not the tasks.
    while kill -0 "$srun" 2>/dev/null; do
        status=0
        wait "$srun" || status=$?
    done
    trap - TERM USR1
    if [[ -e $GLUS_MM_PREEMPTED ]]; then
        rm -f "$GLUS_MM_PREEMPTED"
        status=75
    fi
    if ((status != 75 || left <= 0)); then exit "$status"; fi
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit "$status"
    fi
    resume=(--resume)
done
