# 2 context frames instead of 4; with memory bank, without contrastive loss (GLUS-S-partial).
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
_base_.train_pipeline[0].update(num_context=2)
train_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.train_pipeline)
    for dataset in _base_.train_dataloader.dataset.datasets
]))
model = dict(test_cfg=dict(num_context=2))
