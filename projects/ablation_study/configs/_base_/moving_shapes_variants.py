# All variants of MovingShapes side by side, half of the training videos from the default one;
# ablation.py writes them. The image sizes are those of configs/_base_/models/glus_tiny.py.
data_root = 'data/moving_shapes_variants'
variants = ['default', 'elsewhere', 'crossing', 'crowd', 'late']

train_pipeline = [
    dict(
        type='SampleContextQueryFrames', num_context=4, num_query=4, num_expressions=4,
        strategy='global_local', kind_weights={
            'appearance': 3, 'position': 2, 'motion': 3, 'event': 2, 'look-alike': 2, 'group': 2,
            'late': 2, 'no-target': 1}),
    dict(type='LoadRefVOSFrames'),
    dict(type='LoadRefVOSMasks', overlap='or'),
    dict(type='ResizeForEncoders', vision_size=64, sam_size=128, vision_crop='squash'),
    dict(type='BuildConversation', tokenizer='tiny', template='compact'),
    dict(type='PackRefVOSInputs')
]
test_pipeline = [
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='OpenFrameReader'),
    dict(type='LoadRefVOSGroundTruth'),
    dict(type='PackRefVOSInputs')
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='MixedVideoSampler', ratios=[4, 1, 1, 1, 1]),
    dataset=dict(
        type='MixedRefVOSDataset',
        pipeline=train_pipeline,
        datasets=[
            dict(type='MovingShapesDataset', data_root=f'{data_root}/{name}/train')
            for name in variants
        ]))
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MixedRefVOSDataset',
        pipeline=test_pipeline,
        datasets=[
            dict(
                type='MovingShapesDataset', data_root=f'{data_root}/{name}/valid_u',
                test_mode=True) for name in variants
        ]))

test_evaluator = dict(type='RefVOSMetric')
