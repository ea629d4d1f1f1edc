# The shipped model, which was trained with context, tested without. Test only.
_base_ = ['./glu.py']
_base_.test_pipeline[0].update(num_context=0)
test_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.test_pipeline)
    for dataset in _base_.test_dataloader.dataset.datasets
]))
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True, num_context=0))
