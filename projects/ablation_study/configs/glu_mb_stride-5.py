# Table C: the memory bank with stride 5 in testing (3 in glu_mb.py). Test only.
_base_ = ['./glu_mb.py']
model = dict(test_cfg=dict(memory_stride=5))
