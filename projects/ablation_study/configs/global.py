# Table 4, global reasoning: query frames spread over the video, which is tested in such folds.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='global')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(test_cfg=dict(propagator=dict(type='FoldPropagator', frames='spread')))
