# The Standard-SFT, validated every 500 optimizer steps on the first 10 videos of MeViS valid_u. The
# weights with the best J&F so far stay as best_J&F_iter_<n>.pth. Not run.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(loss_contrastive=dict(
    type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']))
val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, indices=10))
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')
train_cfg = dict(val_interval=500 * 10)
default_hooks = dict(checkpoint=dict(save_best='J&F', rule='greater'))
