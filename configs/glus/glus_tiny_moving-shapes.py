# Stage 5 and the embedded default: GLUS with memory on the videos of MovingShapes.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
load_from = 'work_dirs/glus_tiny_windows_moving-shapes/iter_1100.pth'
model = dict(
    mllm=dict(trainable=['llm.*', 'lm_head.*', 'projector.*', 'seg_projector.*']),
    mask_head=dict(trainable=[
        'sam2.sam_mask_decoder.*', 'sam2.memory_attention.*', 'sam2.memory_encoder.*'
    ]),
    existence='answer',
    loss_iou=dict(type='MaskIoULoss'),
    # With the official 0.5 a model that is not sure answers with an empty mask.
    loss_mask_dice=dict(loss_weight=2.0),
    # A decoder that also knows points, see docs/training.md.
    train_cfg=dict(click_prob=0.2, mistaken_prob=0.1),
    # Chosen on a seed of its own, see docs/moving_shapes.md.
    test_cfg=dict(seg_threshold=0.9))
# What only a video shows, and several objects at once.
_base_.train_pipeline[0].update(kind_weights={
    'appearance': 2, 'position': 2, 'motion': 8, 'event': 1, 'look-alike': 8, 'group': 8,
    'no-target': 2})
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys={'mask_head': dict(lr_mult=0.2)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=30, end=800, eta_min=1e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800)
