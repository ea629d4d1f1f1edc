# Long-RVOS: trains on train, tests on valid.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/long_rvos'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='LongRVOSDataset',
        data_root=f'{data_root}/train',
        min_frames=4,
        pipeline=_base_.train_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='LongRVOSDataset',
        data_root=f'{data_root}/valid',
        test_mode=True,
        pipeline=_base_.test_pipeline))

test_evaluator = dict(type='RefVOSMetric', protocol='long-rvos')
