# Trained with the memory bank, tested without it. Not Table C's "w/o MB", which was trained without
# it, too: that is glus_lisa-7b_sam2-l_glu.py. Test only.
_base_ = ['../glus/glus_lisa-7b_sam2-l.py']
load_from = 'Swindl/GLUS-S-partial'
model = dict(test_cfg=dict(use_memory=False))
