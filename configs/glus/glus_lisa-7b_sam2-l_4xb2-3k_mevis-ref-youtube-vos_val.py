# The Standard-SFT, validated every 500 optimizer steps on the first 10 videos of MeViS valid_u. The
# weights with the best J&F so far stay as best_J&F_iter_<n>.pth. Not run.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos.py']
val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, indices=10))
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')
train_cfg = dict(val_interval=500 * 10)
default_hooks = dict(checkpoint=dict(save_best='J&F', rule='greater'))
