# As glu_mb.py, a quarter of the samples being talk about the default variant, without masks.
_base_ = ['./glu.py']
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True))
talk = dict(
    type='ConversationDataset', data_root=f'{_base_.data_root}/default/train', ann_file='talk.json',
    pipeline=[
        dict(type='BuildTalk', tokenizer='tiny', template='compact', num_context=4, num_pairs=8),
        dict(type='LoadRefVOSFrames', same_size=False),
        dict(type='ResizeForEncoders', vision_size=64, sam_size=128, vision_crop='squash'),
        dict(type='PackRefVOSInputs')
    ])
train_dataloader = dict(
    sampler=dict(ratios=[12, 3, 3, 3, 3, 8]),
    dataset=dict(datasets=[*_base_.train_dataloader.dataset.datasets, talk]))
