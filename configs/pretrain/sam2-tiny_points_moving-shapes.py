# Stage 0: the SAM-2 part learns to segment from points and to track by memory, which is what a
# pretrained SAM-2 brings to GLUS.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
model = dict(
    _delete_=True, type='SAM2Pretrainer', mask_head=_base_.mask_head,
    loss_mask_bce=dict(type='MaskBCELoss', loss_weight=5.0),
    loss_mask_dice=dict(type='MaskDiceLoss', loss_weight=1.0))
# Often one that its twin crosses; groups, so that one token may name several places.
_base_.train_pipeline[0].update(num_context=0, num_query=5, strategy='local', kind_weights={
    'appearance': 3, 'position': 2, 'motion': 2, 'event': 2, 'look-alike': 4,
    'group': 3})
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=3000, eta_min=2e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000)
