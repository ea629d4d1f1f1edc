# Table 7: the default variant of MovingShapes and the crowd, mixed 1:2.
_base_ = ['./glu.py']
train_dataloader = dict(
    sampler=dict(ratios=[1, 2]),
    dataset=dict(datasets=[_base_.train_dataloader.dataset.datasets[i] for i in (0, 3)]))
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True))
