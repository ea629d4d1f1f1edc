# Table 4, "+ GLU", and Table C, "w/o MB": context and consecutive query frames, no memory bank.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
model = dict(train_cfg=dict(use_memory=False), test_cfg=dict(use_memory=False))
