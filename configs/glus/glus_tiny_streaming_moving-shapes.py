# The default, trained on for a stream: in clips of 8 query frames a turn sees the 3 turns before
# it. Starts from the weights that come with the package, of which only the language model's part
# goes on learning: masks and their memory are the same with and without a stream.
_base_ = ['./glus_tiny_moving-shapes.py']
load_from = 'checkpoints/glus_tiny_moving-shapes.pth'
model = dict(
    mask_head=dict(trainable=[]),
    train_cfg=dict(attention='window', click_prob=0.0, mistaken_prob=0.0),
    test_cfg=dict(window_cache='turns'))
_base_.train_pipeline[0].update(num_query=8, num_expressions=2)
# Half of the clips are of videos in slow motion (--frames 120), as a long stream is.
train_dataloader = dict(
    batch_size=2,
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[1, 1]),
    dataset=dict(
        _delete_=True, type='MixedRefVOSDataset', pipeline=_base_.train_pipeline,
        datasets=[
            dict(type='MovingShapesDataset', data_root=f'data/{name}/train')
            for name in ('moving_shapes', 'moving_shapes_slow')
        ]))
optim_wrapper = dict(optimizer=dict(lr=4e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=300, eta_min=4e-6, by_epoch=False)
]
train_cfg = dict(max_iters=300)
default_hooks = dict(checkpoint=dict(interval=50))
