# Table 4, local reasoning: consecutive query frames without context, in training and testing.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='local')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(test_cfg=dict(num_context=0))
