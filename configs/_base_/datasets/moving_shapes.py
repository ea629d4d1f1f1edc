# MovingShapes, written by tools/dataset_converters/moving_shapes.py. The image sizes are those of
# the model in ../models/glus_tiny.py.
data_root = 'data/moving_shapes'

train_pipeline = [
    dict(
        type='SampleContextQueryFrames', num_context=4, num_query=4, num_expressions=4,
        strategy='global_local'),
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
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteVideoSampler', shuffle=True),
    dataset=dict(
        type='MovingShapesDataset',
        data_root=f'{data_root}/train',
        pipeline=train_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='BalancedVideoSampler'),
    dataset=dict(
        type='MovingShapesDataset',
        data_root=f'{data_root}/valid_u',
        test_mode=True,
        pipeline=test_pipeline))

test_evaluator = dict(type='RefVOSMetric')
