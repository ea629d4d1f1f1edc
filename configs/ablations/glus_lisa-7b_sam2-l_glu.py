# Table 4, "+ GLU", and Table C, "w/o MB": context and consecutive query frames, no memory bank.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(train_cfg=dict(use_memory=False), test_cfg=dict(use_memory=False))
