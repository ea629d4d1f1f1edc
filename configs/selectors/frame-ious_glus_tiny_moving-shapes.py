# Pseudo-labels: the IoU of the default model on every frame of the first 150 training videos. Goes
# on where it was stopped. For another file set both:
#   --cfg-options test_evaluator.out_file=F.json test_dataloader.sampler.out_file=F.json
_base_ = ['../glus/glus_tiny_moving-shapes.py']
out_file = 'work_dirs/frame_ious/moving_shapes_train.json'
test_dataloader = dict(
    sampler=dict(_delete_=True, type='UnlabelledVideoSampler', out_file=out_file),
    dataset=dict(data_root='data/moving_shapes/train', indices=150))
test_evaluator = dict(_delete_=True, type='FrameIoUMetric', out_file=out_file)
