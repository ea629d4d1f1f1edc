# Table B of the paper: 8 context frames, 1 target, MeViS and Ref-YouTube-VOS 4000:15000, AdamW with
# 3e-4, batch 80 as 4 processes x 2 x 10. The paper does not say how long; 3000 steps are GLUS's.
# Not run. load_from is what tools/model_converters/chatunivi2mm.py writes, the pseudo-labels come
# from the frame-ious configs beside this file.
_base_ = [
    '../_base_/models/key-frame-selector_chat-univi-7b.py', '../_base_/datasets/sft_sets.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'checkpoints/chat-univi-7b-selector'
sampling = dict(
    type='SampleContextQueryFrames', num_context=8, num_query=1, num_expressions=1,
    strategy='among')
reading = [
    dict(type='LoadRefVOSFrames'),
    dict(type='ResizeForEncoders', vision_size=224, sam_size=None, vision_crop='center'),
    dict(type='BuildConversation', tokenizer='load_from', template='selector'),
    dict(type='PackRefVOSInputs')
]
# indices: the first half of each training set, which is what has labels.
train_dataloader = dict(
    sampler=dict(type='MixedVideoSampler', ratios=[4000, 15000]),
    dataset=dict(type='MixedRefVOSDataset', datasets=[
        dict(_base_.mevis_train, indices=831, pipeline=[
            sampling,
            dict(type='LoadFrameScores', file='work_dirs/frame_ious/mevis_train.json'), *reading]),
        dict(_base_.ref_youtube_vos_train, indices=1735, pipeline=[
            sampling,
            dict(type='LoadFrameScores', file='work_dirs/frame_ious/ref-youtube-vos_train.json'),
            *reading])]))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='OpenFrameReader'), dict(type='PackRefVOSInputs')]))
test_evaluator = dict(
    _delete_=True, type='KeyFrameMetric', out_dir='work_dirs/key_frames/mevis_valid_u')
