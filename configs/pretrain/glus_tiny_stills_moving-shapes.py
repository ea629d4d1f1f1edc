# Stage 1: words meet places on single frames, which is what LISA brings to GLUS. SAM-2 comes from
# stage 0 and stays frozen, but for the mask decoder, which learns slowly.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
model = dict(
    mllm=dict(init_cfg=dict(
        type='Pretrained', prefix='mllm.',
        checkpoint='work_dirs/llava-tiny_words_moving-shapes/iter_600.pth')),
    mask_head=dict(
        trainable=['sam2.sam_mask_decoder.*'],
        init_cfg=dict(
            type='Pretrained', prefix='mask_head.',
            checkpoint='work_dirs/sam2-tiny_points_moving-shapes/iter_800.pth')))
# What a single frame shows.
_base_.train_pipeline[0].update(
    num_context=1, num_query=1, num_expressions=6,
    kind_weights={'appearance': 4, 'position': 2, 'group': 3, 'no-target': 1})
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.1)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=1200, eta_min=1e-4, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1200)
