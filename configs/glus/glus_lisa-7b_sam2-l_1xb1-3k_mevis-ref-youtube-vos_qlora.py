# Standard-SFT for one accelerator of 24 GB: base weights of the LLM in 4 bits, one video at a time,
# 80 of them a step as in 4 processes x 2 videos x 10 micro-batches. Not run; see docs/training.md.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(
    mask_head=dict(checkpoint_memory=True),
    loss_contrastive=dict(type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']))
train_dataloader = dict(batch_size=1)
custom_hooks = [dict(type='QuantizeHook')]
optim_wrapper = dict(accumulative_counts=80)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=100 * 80, by_epoch=False),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=100 * 80, end=3000 * 80,
         by_epoch=False)
]
train_cfg = dict(max_iters=3000 * 80)
default_hooks = dict(checkpoint=dict(interval=500 * 80))
