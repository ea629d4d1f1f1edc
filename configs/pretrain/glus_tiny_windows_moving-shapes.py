# Stage 4: GLUS with memory, on windows of query frames.
_base_ = ['../glus/glus_tiny_moving-shapes.py']
load_from = 'work_dirs/glus_tiny_motion.pth'
_base_.train_pipeline[0].update(kind_weights={
    'appearance': 3, 'position': 2, 'motion': 5, 'event': 1, 'look-alike': 8, 'group': 8,
    'no-target': 2})
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=1100, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1100)
