# Table C, w/o MB: trained with the memory bank, tested without it. Test only.
_base_ = ['./glu_mb.py']
model = dict(test_cfg=dict(use_memory=False))
