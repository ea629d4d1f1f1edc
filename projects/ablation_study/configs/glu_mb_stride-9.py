# Table C: the memory bank with stride 9 in testing (3 in glu_mb.py). Test only.
_base_ = ['./glu.py']
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True, memory_stride=9))
