# The default, trained on for a stream: in clips of 8 query frames a turn sees the 3 turns before
# it. Starts from the weights that come with the package.
_base_ = ['./glus_tiny_moving-shapes.py']
load_from = 'checkpoints/glus_tiny_moving-shapes.pth'
model = dict(train_cfg=dict(attention='window'), test_cfg=dict(window_cache='turns'))
_base_.train_pipeline[0].update(num_query=8, num_expressions=2)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=6, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=6, end=60, eta_min=1e-5, by_epoch=False)
]
train_cfg = dict(max_iters=60)
