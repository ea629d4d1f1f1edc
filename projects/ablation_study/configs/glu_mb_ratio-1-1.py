# Table 7: the default variant of MovingShapes and the crowd, mixed 1:1.
_base_ = ['./glu_mb.py']
train_dataloader = dict(
    sampler=dict(ratios=[1, 1]),
    dataset=dict(datasets=[_base_.train_dataloader.dataset.datasets[i] for i in (0, 3)]))
