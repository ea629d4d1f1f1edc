# 80 short steps from the start that all rows of the ablation study share. Another number:
# ablation.py --steps N, which sets max_iters and the end of the decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.95), weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.2)}),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=10, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=10, end=80, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80)
test_cfg = dict(type='TestLoop')
