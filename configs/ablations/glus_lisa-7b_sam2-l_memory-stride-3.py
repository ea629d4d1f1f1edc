# Table C, sampling frequency 3 of the memory bank. Test only.
_base_ = ['../glus/glus_lisa-7b_sam2-l.py']
load_from = 'Swindl/GLUS-S-partial'
model = dict(test_cfg=dict(memory_stride=3))
