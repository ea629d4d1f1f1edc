# Table 4's kin, VISA in Table 1: context and query frames drawn at random.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='random')
train_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.train_pipeline)
    for dataset in _base_.train_dataloader.dataset.datasets
]))
