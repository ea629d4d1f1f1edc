# Stage 1: vision tower and projector learn to say what is where, as CLIP does for LLaVA.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
model = dict(
    _delete_=True, type='VisionPretrainer', mllm=dict(_base_.mllm, seg_dim=128),
    words=dict(
        colour=['red', 'orange', 'yellow', 'green', 'blue', 'purple'],
        shape=['circle', 'square', 'triangle', 'star', 'diamond']))
train_pipeline = [
    dict(type='SampleContextQueryFrames', num_context=0, num_query=6, num_expressions=1,
         strategy='random'),
    dict(type='LoadRefVOSFrames'),
    dict(type='LoadObjects', grid=8, vision_crop='squash'),
    dict(type='ResizeForEncoders', vision_size=64, sam_size=None, vision_crop='squash'),
    dict(type='BuildConversation', tokenizer='tiny', template='compact'),
    dict(type='PackRefVOSInputs')
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=2000, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000)
