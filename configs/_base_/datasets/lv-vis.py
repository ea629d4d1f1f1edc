# LV-VIS with expressions, for training only.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/LVVIS'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='LVVISDataset',
        data_root=data_root,
        min_frames=4,
        pipeline=_base_.train_pipeline))
