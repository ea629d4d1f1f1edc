# Stage 3: the same with four context frames, so that words meet what only a video shows; the objects
# are followed from frame to frame.
_base_ = ['./glus_tiny_stills_moving-shapes.py']
load_from = 'work_dirs/glus_tiny_stills_moving-shapes/iter_600.pth'
model = dict(loss_motion=dict(type='MotionLoss', layers=(2, 3), track=(1, 2)))
_base_.train_pipeline[0].update(
    num_context=4, kind_weights={
        'appearance': 2, 'position': 2, 'motion': 6, 'event': 3, 'look-alike': 4, 'group': 3,
        'no-target': 1})
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    # Places are compared to a part of a cell only when steps are small.
    dict(type='CosineAnnealingLR', begin=30, end=1800, eta_min=1e-4, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1800)
