# Standard-SFT as the official code does it, where that differs from the defaults here: no gradient
# through the memory, objects of an expression add up to 2 where they overlap, and each process
# takes means over its own masks and tokens. The contrastive loss (positives, negatives, least number
# of tokens), dropout (LoRA 0.05, SAM-2's memory attention 0.1) and all else are the same.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(
    mask_head=dict(detach_memory=True),
    loss_contrastive=dict(
        type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']),
    train_cfg=dict(normalize='local'))
_base_.train_pipeline[2].update(overlap='sum')
train_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.train_pipeline)
    for dataset in _base_.train_dataloader.dataset.datasets
]))
