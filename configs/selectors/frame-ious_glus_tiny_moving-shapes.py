# Pseudo-labels: the IoU of the default model on every frame of the first 100 training videos.
# tools/test.py --resume goes on where it was stopped.
_base_ = ['../glus/glus_tiny_moving-shapes.py']
test_dataloader = dict(dataset=dict(data_root='data/moving_shapes/train', indices=100))
test_evaluator = dict(
    _delete_=True, type='FrameIoUMetric', out_file='work_dirs/frame_ious/moving_shapes_train.json')
