# Ref-SAV: tests on valid.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/ref_sav'

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='RefSAVDataset',
        data_root=f'{data_root}/valid',
        test_mode=True,
        pipeline=_base_.test_pipeline))

test_evaluator = dict(type='RefVOSMetric', protocol='ref-sav')
