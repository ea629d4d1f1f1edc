# Table 7 of the paper: MeViS and Ref-YouTube-VOS 1:1, without the contrastive loss.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
train_dataloader = dict(sampler=dict(ratios=[1, 1]))
