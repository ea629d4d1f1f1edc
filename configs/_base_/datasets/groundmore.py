# GroundMoRe: tests on the 20 frames of each clip that the official evaluation looks at.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/groundmore'

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='GroundMoReDataset',
        data_root=data_root,
        test_mode=True,
        pipeline=_base_.test_pipeline))

test_evaluator = dict(type='RefVOSMetric', protocol='groundmore')
