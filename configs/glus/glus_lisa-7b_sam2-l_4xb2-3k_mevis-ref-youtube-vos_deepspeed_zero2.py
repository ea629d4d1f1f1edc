# Standard-SFT with DeepSpeed's ZeRO-2; all else as in the config without that ending.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k_deepspeed_zero2.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(loss_contrastive=dict(
    type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']))
