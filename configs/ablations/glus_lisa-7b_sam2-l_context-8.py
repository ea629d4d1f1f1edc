# 8 context frames instead of 4; with memory bank, without contrastive loss (GLUS-S-partial).
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
_base_.train_pipeline[0].update(num_context=8)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(test_cfg=dict(num_context=8))
