# Trained with the memory bank, tested without it. Not Table C's "w/o MB", which was trained without
# it, too: that is glus_lisa-7b_sam2-l_glu.py. Test only.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l.py', '../_base_/datasets/mevis.py',
    '../_base_/default_runtime.py'
]
load_from = 'Swindl/GLUS-S-partial'
model = dict(
    mllm=dict(trainable=[]), mask_head=dict(trainable=[]),
    test_cfg=dict(use_memory=False))
train_dataloader = None
test_cfg = dict(type='TestLoop')
