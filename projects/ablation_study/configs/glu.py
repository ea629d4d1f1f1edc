# Table 4, GLU: context and consecutive query frames, each frame decoded without memory. The base
# of all rows of the study. The start has learned to answer without [SEG] where there is no target.
_base_ = [
    '../../../configs/_base_/models/glus_tiny.py', './_base_/moving_shapes_variants.py',
    './_base_/schedule.py', '../../../configs/_base_/default_runtime.py'
]
load_from = 'checkpoints/glus_tiny_motion_moving-shapes.pth'
model = dict(
    mask_head=dict(trainable=[
        'sam2.sam_mask_decoder.*', 'sam2.memory_attention.*', 'sam2.memory_encoder.*'
    ]),
    existence='answer',
    # With the official 0.5 a model that is not sure answers with an empty mask.
    loss_mask_dice=dict(loss_weight=2.0),
    train_cfg=dict(use_memory=False),
    test_cfg=dict(use_memory=False))
default_hooks = dict(checkpoint=dict(interval=25, max_keep_ckpts=1))
