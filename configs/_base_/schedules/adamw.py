# AdamW by iterations, with linear warm-up and cosine decay; leaves set the number and the rate.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0))
test_cfg = dict(type='TestLoop')
