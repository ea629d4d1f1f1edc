# Table 4, "Global Reasoning": 8 frames spread over the video, no memory bank. Tested in folds of
# frames that are spread likewise.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
_base_.train_pipeline[0].update(strategy='global')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(
    train_cfg=dict(use_memory=False),
    test_cfg=dict(use_memory=False, propagator=dict(type='FoldPropagator', frames='spread')))
