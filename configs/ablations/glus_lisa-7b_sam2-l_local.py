# Table 4, "Local Reasoning": 8 consecutive frames and no context, no memory bank.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
_base_.train_pipeline[0].update(strategy='local', num_query=8)
train_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.train_pipeline)
    for dataset in _base_.train_dataloader.dataset.datasets
]))
model = dict(
    train_cfg=dict(use_memory=False),
    test_cfg=dict(use_memory=False, num_context=0, window=8))
