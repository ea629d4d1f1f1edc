# VISA's frames in training (Table 1): context and query frames drawn at random. Tested as glu.py,
# not from key frames with an external tracker, so that only the training differs.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='random')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
