# Table 4, "Local Reasoning": 8 consecutive frames and no context, no memory bank.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
_base_.train_pipeline[0].update(strategy='local', num_query=8)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(
    train_cfg=dict(use_memory=False),
    test_cfg=dict(use_memory=False, num_context=0, window=8))
