# Stage 0, language side: visual tokens are aligned with the words for what they show, which is
# what CLIP and LLaVA bring to LISA.
_base_ = [
    '../_base_/models/glus_tiny.py', '../_base_/datasets/moving_shapes.py',
    '../_base_/schedules/adamw.py', '../_base_/default_runtime.py'
]
model = dict(
    _delete_=True, type='VisionTextPretrainer',
    mllm=dict(_base_.mllm, seg_dim=_base_.mask_head.sam2.d_model))
_base_.train_pipeline[0].update(
    num_context=0, num_query=1, num_expressions=8,
    kind_weights=dict(appearance=6, group=3, position=1))
train_dataloader = dict(batch_size=24, dataset=dict(pipeline=_base_.train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=600, eta_min=5e-5, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600)
