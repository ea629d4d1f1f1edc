# Table 4, GLU + MB: the memory bank, trained end to end.
_base_ = ['./glu.py']
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True))
