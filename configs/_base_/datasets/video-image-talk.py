# Video referring, image referring, and talk about images and videos. The ratios are those of VISA's
# scripts train_7b.sh and train_13b.sh: semantic 9, referring 3, question answering 3, reasoning 1,
# as in LISA's README, and video chat 4, video segmentation 12. Data sets of one kind share its
# part equally, as LISA draws them. LISA has five semantic sets, of which these are two.
_base_ = ['./ref_vos_pipeline.py', './sft_sets.py']

talk_pipeline = [
    dict(type='BuildTalk', tokenizer='load_from', template='llava_v1', num_context=4),
    dict(type='LoadRefVOSFrames', same_size=False),
    dict(type='ResizeForEncoders', vision_size=224, sam_size=1024, vision_crop='center'),
    dict(type='PackRefVOSInputs')
]
# (ratio, data set)
semantic = [
    (4.5, dict(
        type='COCOClassDataset', data_root='data/ade20k', ann_file='annotations/training.json',
        data_prefix=dict(img='images/training'), metainfo=dict(dataset='ade20k'))),
    (4.5, dict(
        type='COCOClassDataset', data_root='data/cocostuff', ann_file='annotations/train2017.json',
        data_prefix=dict(img='train2017'), metainfo=dict(dataset='cocostuff')))
]
refcoco, refcoco_plus, refcocog = (
    dict(type='RefCOCODataset', data_root='data/refer_seg', ann_file=f'{name}/refs({split}).p',
         data_prefix=dict(mask=f'{name}/instances.json'), metainfo=dict(dataset=name))
    for name, split in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd')))
images = [
    *semantic, (1, refcoco), (1, refcoco_plus), (1, refcocog),
    (1, dict(type='ReasonSegDataset', data_root='data/reason_seg/ReasonSeg'))
]
talk = [
    (3, dict(
        type='ConversationDataset', data_root='data',
        ann_file='llava_dataset/llava_instruct_150k.json', data_prefix=dict(img='coco/train2017'),
        metainfo=dict(dataset='llava'))),
    (4, dict(
        type='ConversationDataset', data_root='data/video_chat',
        metainfo=dict(dataset='video_chat')))
]
parts = [
    *images, *((ratio, dict(dataset, pipeline=talk_pipeline)) for ratio, dataset in talk),
    (6, _base_.mevis_train), (6, _base_.ref_youtube_vos_train)
]
train_dataloader = dict(
    sampler=dict(type='MixedVideoSampler', ratios=[ratio for ratio, _ in parts]),
    dataset=dict(
        type='MixedRefVOSDataset', pipeline=_base_.train_pipeline,
        datasets=[dataset for _, dataset in parts]))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
