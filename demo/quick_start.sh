#!/usr/bin/env bash
# The main job end to end on MovingShapes: fine-tune the shipped checkpoint for about a minute,
# test it, and segment a video by two texts. Run by `make demo`; results in outputs/demo.
# Variables: ITERS (training iterations), CONFIG, CHECKPOINT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=${CONFIG:-configs/glus/glus_tiny_moving-shapes.py}
checkpoint=${CHECKPOINT:-checkpoints/glus_tiny_moving-shapes.pth}
data=data/moving_shapes_demo
out=outputs/demo

echo "== 1/4 data: 64 training and 8 validation videos in $data"
generate=tools/dataset_converters/moving_shapes.py
python $generate "$data" --videos 64 --seed 101 --split train --no-mp4 --overwrite
python $generate "$data" --videos 8 --seed 202 --split valid_u --overwrite

echo "== 2/4 training: fine-tuning $checkpoint"
rm -rf "$out"
python tools/train.py "$config" --work-dir $out/train --cfg-options \
    load_from="$checkpoint" train_cfg.max_iters="${ITERS:-40}" optim_wrapper.optimizer.lr=1e-4 \
    train_dataloader.dataset.data_root=$data/train
tuned=$(cat $out/train/last_checkpoint)

echo "== 3/4 testing $tuned"
python tools/test.py "$config" "$tuned" --work-dir $out/test --dump $out/figures.json \
    --cfg-options test_dataloader.dataset.data_root=$data/valid_u

echo "== 4/4 segmenting a video by two texts"
mapfile -t chosen < <(python - $data/valid_u <<'PYTHON'
import json
import sys

# The first video with an expression about looks and one about something else.
videos = json.load(open(f'{sys.argv[1]}/meta_expressions.json'))['videos']
for name, video in videos.items():
    texts = {}
    for expression in video['expressions'].values():
        if expression['obj_id']:
            texts.setdefault(expression['kind'], expression['exp'])
    if 'appearance' in texts and len(texts) > 1:
        break
kinds = sorted(texts, key=lambda kind: kind != 'appearance')
print(name, texts[kinds[0]], texts[kinds[-1]], sep='\n')
PYTHON
)
python demo/video_demo.py "$data/valid_u/videos/${chosen[0]}.mp4" "$config" "$tuned" \
    --text "${chosen[1]}" --text "${chosen[2]}" --out-dir $out/video

echo "== done"
echo "figures: $out/figures.json   masks, overlay and contact sheet: $out/video"
