# Standard-SFT as the official code does it, where that differs from the defaults here: no gradient
# through the memory, objects of an expression add up to 2 where they overlap, and each process
# takes means over its own masks and tokens. The contrastive loss (positives, negatives, least number
# of tokens), dropout (LoRA 0.05, SAM-2's memory attention 0.1) and all else are the same.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos.py']
model = dict(
    mask_head=dict(detach_memory=True),
    train_cfg=dict(normalize='local'))
_base_.train_pipeline[2].update(overlap='sum')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
