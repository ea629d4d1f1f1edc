# A key-frame selector on the MLLM of the default model, trained on its IoUs on the first 100 videos
# (frame-ious_glus_tiny_moving-shapes.py), tested on 30 unseen ones. docs/key_frames.md has the
# commands, from the pseudo-labels on.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/selector_init.pth'  # tools/model_converters/glus2selector.py
ious = 'work_dirs/frame_ious/moving_shapes'
model = dict(
    _delete_=True, type='KeyFrameSelector',
    mllm=dict(
        _base_.mllm, template='selector_compact', trainable=[
            'llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*']))
train_pipeline = [
    dict(
        type='SampleContextQueryFrames', num_context=8, num_query=1, num_expressions=10,
        strategy='among'),
    dict(type='LoadFrameScores', file=f'{ious}_train.json'),
    dict(type='LoadRefVOSFrames'),
    dict(type='ResizeForEncoders', vision_size=64, sam_size=None, vision_crop='squash'),
    dict(type='BuildConversation', tokenizer='tiny', template='selector_compact'),
    dict(type='PackRefVOSInputs')
]
test_pipeline = [
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='LoadFrameScores', file=f'{ious}_valid_u.json'),
    dict(type='OpenFrameReader'),
    dict(type='PackRefVOSInputs')
]
train_dataloader = dict(batch_size=4, dataset=dict(indices=100, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(indices=30, pipeline=test_pipeline))
test_evaluator = dict(
    _delete_=True, type='KeyFrameMetric', out_dir='work_dirs/key_frames/moving_shapes_valid_u')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=300, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300)
