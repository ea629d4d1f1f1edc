# Table C, w/o MB: trained with the memory bank, tested without it. Test only.
_base_ = ['./glu.py']
model = dict(train_cfg=dict(use_memory=True))
