# Ref-DAVIS17: trains on train, tests on valid.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/DAVIS17'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='RefDAVISDataset',
        data_root=data_root,
        min_frames=4,
        pipeline=_base_.train_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='RefDAVISDataset',
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        test_mode=True,
        pipeline=_base_.test_pipeline))

# The GLUS and VISA way; ReferFormer's: protocol='ref-davis', ann_root=<the folder of DAVIS 2017>.
test_evaluator = dict(type='RefVOSMetric', protocol='ref-davis-glus')
