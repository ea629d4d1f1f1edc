# Ref-YouTube-VOS: trains on train; writes masks for the server, for the videos of valid that are
# not in test.
_base_ = './ref_vos_pipeline.py'
data_root = 'data/Refer-YouTube-VOS'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='RefYouTubeVOSDataset',
        data_root=data_root,
        min_frames=4,
        pipeline=_base_.train_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='RefYouTubeVOSDataset',
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        exclude_ann_file='meta_expressions/test/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        min_frames=4,
        test_mode=True,
        pipeline=_base_.test_pipeline))

test_evaluator = dict(
    type='RefVOSMetric',
    format_only=True,
    output_dir='outputs/ref-youtube-vos',
    zip='ref-youtube-vos')
