#!/usr/bin/env bash
# Make checkpoints/glus_tiny_moving-shapes.pth from nothing, in the stages of docs/moving_shapes.md.
#   bash tools/misc/train_tiny.sh [NUM_PROCS]
# A stage that was interrupted goes on where it stopped, and one that is done is not run again: call
# it anew. The shipped file was made with one process; with two, each step has twice the samples.
set -euo pipefail
procs=${1:-1}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
here=$(dirname "$0")/../..

last() { echo "work_dirs/$1/$(basename "$(cat "work_dirs/$1/last_checkpoint")")"; }

train() {  # config without .py, options
    bash "$here/tools/dist_train.sh" "$here/configs/$1.py" "$procs" --resume auto "${@:2}"
}

[ -e data/moving_shapes/train/meta_expressions.json ] || \
    python "$here/tools/dataset_converters/moving_shapes.py" data/moving_shapes \
        --videos 3000 --seed 0 --split train --no-mp4 --workers 2 --overwrite
train pretrain/sam2-tiny_points_moving-shapes
train pretrain/vision-tower-tiny_moving-shapes
python "$here/tools/misc/publish_model.py" --dtype keep "$(last sam2-tiny_points_moving-shapes)" \
    "$(last vision-tower-tiny_moving-shapes)" work_dirs/glus_tiny_parts.pth
train pretrain/glus_tiny_stills_moving-shapes
train pretrain/glus_tiny_motion_moving-shapes
python "$here/tools/misc/publish_model.py" --dtype keep "$(last glus_tiny_motion_moving-shapes)" \
    work_dirs/glus_tiny_motion.pth
train pretrain/glus_tiny_windows_moving-shapes
# Other videos than the first ones of stage 4.
train glus/glus_tiny_moving-shapes --cfg-options randomness.seed=1
python "$here/tools/misc/publish_model.py" "$(last glus_tiny_moving-shapes)" \
    checkpoints/glus_tiny_moving-shapes.pth
