#!/usr/bin/env bash
# Make checkpoints/glus_tiny_moving-shapes.pth from nothing, in the three stages of docs/moving_shapes.md.
#   bash tools/misc/train_tiny.sh [NUM_PROCS]
# Two processes of one thread are faster on two cores than one process of two threads.
set -euo pipefail
procs=${1:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
here=$(dirname "$0")/../..

python "$here/tools/dataset_converters/moving_shapes.py" data/moving_shapes \
    --videos 2500 --seed 0 --split train --no-mp4 --workers "$procs"
for config in pretrain/sam2-tiny_points_moving-shapes pretrain/glus_tiny_stills_moving-shapes \
    glus/glus_tiny_moving-shapes; do
    bash "$here/tools/dist_train.sh" "$here/configs/$config.py" "$procs"
done
python "$here/tools/misc/publish_model.py" \
    "work_dirs/glus_tiny_moving-shapes/$(basename "$(cat work_dirs/glus_tiny_moving-shapes/last_checkpoint)")" \
    checkpoints/glus_tiny_moving-shapes.pth
