# Stage 2 and the embedded default: GLUS with memory on the videos of MovingShapes.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/glus_tiny_stills_moving-shapes/iter_3000.pth'
model = dict(
    mask_head=dict(trainable=[
        'sam2.sam_mask_decoder.*', 'sam2.memory_attention.*', 'sam2.memory_encoder.*'
    ]),
    # With the official 0.5 a model that is not sure answers with an empty mask.
    loss_mask_dice=dict(loss_weight=2.0))
# More of what only a video shows.
_base_.train_pipeline[0].update(kind_weights={
    'appearance': 3, 'position': 2, 'motion': 3, 'event': 2, 'look-alike': 2, 'group': 2,
    'no-target': 1
})
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=8e-4), paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.2)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=1500, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1500)
