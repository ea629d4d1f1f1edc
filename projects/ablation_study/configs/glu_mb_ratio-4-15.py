# Table 7: the default variant of MovingShapes and the crowd, mixed 4:15.
_base_ = ['./glu_mb.py']
train_dataloader = dict(
    sampler=dict(ratios=[4, 15]),
    dataset=dict(datasets=[_base_.train_dataloader.dataset.datasets[i] for i in (0, 3)]))
