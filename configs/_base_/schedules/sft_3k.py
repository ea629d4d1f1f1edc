# Fine-tuning as in the paper (section B.2): 3000 optimizer steps, the first 100 of them with a rate
# that rises from 0, the others with one that falls to 0. MMEngine counts micro-batches, here called
# iterations, of which an optimizer step takes accumulative_counts; max_iters and all numbers of the
# schedulers are iterations, that is optimizer steps x 10.
optim_wrapper = dict(
    type='OptimWrapper',
    accumulative_counts=10,
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    # The scheduler multiplies, so that it cannot leave an exact 0.
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=100 * 10, by_epoch=False),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=100 * 10, end=3000 * 10,
         by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000 * 10)
test_cfg = dict(type='TestLoop')
