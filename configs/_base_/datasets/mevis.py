# MeViS: trains on train, tests on valid_u. For the server, on valid: docs/prepare_data.md.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/mevis'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='MeViSDataset',
        data_root=f'{data_root}/train',
        min_frames=4,
        pipeline=_base_.train_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='MeViSDataset',
        data_root=f'{data_root}/valid_u',
        min_frames=4,
        test_mode=True,
        pipeline=_base_.test_pipeline))

test_evaluator = dict(type='RefVOSMetric')
