# Stage 2: words meet what the vision tower sees, on single frames, as LISA learns from images. SAM-2
# comes from stage 0 and stays frozen but for the mask decoder; the vision tower is that of stage 1.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/glus_tiny_parts.pth'
model = dict(
    mllm=dict(trainable=['llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*']),
    mask_head=dict(trainable=['sam2.sam_mask_decoder.*']),
    existence='answer',
    loss_iou=dict(type='MaskIoULoss'),
    loss_grounding=dict(type='GroundingLoss', layer=3),
    # With the official 0.5 a model that is not sure answers with an empty mask.
    loss_mask_dice=dict(loss_weight=2.0))
# All expressions of a video share its only frame, so that many cost little more than one.
_base_.train_pipeline[0].update(
    num_context=0, num_query=1, num_expressions=10,
    kind_weights={'appearance': 3, 'position': 2, 'event': 1, 'group': 3, 'no-target': 1})
_base_.train_pipeline.insert(2, dict(type='LoadObjects', grid=8, vision_crop='squash'))
train_dataloader = dict(batch_size=12, dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.2)}))
# No decay: the next stage goes on from here.
param_scheduler = [dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600)
default_hooks = dict(checkpoint=dict(strict=False))
