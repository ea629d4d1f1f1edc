# The default, validated every 100 iterations on the first 20 videos of valid_u. The weights with the
# best J&F so far stay as best_J&F_iter_<n>.pth.
_base_ = ['./glus_tiny_moving-shapes.py']
val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, indices=20))
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')
train_cfg = dict(val_interval=100)
default_hooks = dict(checkpoint=dict(save_best='J&F', rule='greater'))
