# AdamW by iterations, with linear warm-up and cosine decay over 500 of them. Another number: set it
# in a leaf as max_iters and as the end of the decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=500, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500)
test_cfg = dict(type='TestLoop')
