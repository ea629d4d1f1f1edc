# Talk about MovingShapes (moving_shapes.py --talk), mixed with its masks.
# Talk alone: dataset=dict(_delete_=True, **_base_.talk_train), with InfiniteVideoSampler.
_base_ = ['./moving_shapes.py']

talk_pipeline = [
    dict(type='BuildTalk', tokenizer='tiny', template='compact', num_context=4, num_pairs=8),
    dict(type='LoadRefVOSFrames', same_size=False),
    dict(type='ResizeForEncoders', vision_size=64, sam_size=128, vision_crop='squash'),
    dict(type='PackRefVOSInputs')
]
refer_train = dict(type='MovingShapesDataset', data_root='data/moving_shapes/train')
talk_train = dict(
    type='ConversationDataset', data_root='data/moving_shapes/train', ann_file='talk.json',
    pipeline=talk_pipeline)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[3, 1]),
    dataset=dict(
        _delete_=True, type='MixedRefVOSDataset', pipeline=_base_.train_pipeline,
        datasets=[refer_train, talk_train]))
