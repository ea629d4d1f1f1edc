# As glu_mb_talk-25.py, half of the samples being talk.
_base_ = ['./glu_mb_talk-25.py']
train_dataloader = dict(sampler=dict(ratios=[12, 3, 3, 3, 3, 24]))
