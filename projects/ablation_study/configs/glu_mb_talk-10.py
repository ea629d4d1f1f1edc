# As glu_mb_talk-25.py, a tenth of the samples being talk.
_base_ = ['./glu_mb_talk-25.py']
train_dataloader = dict(sampler=dict(ratios=[36, 9, 9, 9, 9, 8]))
