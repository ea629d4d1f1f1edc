# Stage 1: words meet places on single frames, which is what LISA brings to GLUS. SAM-2 comes from
# stage 0 and stays frozen, but for the mask decoder, which learns slowly.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/sam2-tiny_points_moving-shapes/iter_800.pth'
model = dict(mask_head=dict(trainable=['sam2.sam_mask_decoder.*']))
# What a single frame shows; places are learned long before looks.
_base_.train_pipeline[0].update(
    num_context=1, num_query=1, num_expressions=6,
    kind_weights={'appearance': 6, 'position': 2, 'group': 3, 'no-target': 1})
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.1)}))
# No decay: the plateau at which every object is segmented is left late.
param_scheduler = [dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000)
default_hooks = dict(checkpoint=dict(strict=False))
