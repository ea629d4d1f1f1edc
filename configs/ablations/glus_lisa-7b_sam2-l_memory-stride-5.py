# Table C, sampling frequency 5 of the memory bank. Test only.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l.py', '../_base_/datasets/mevis.py',
    '../_base_/default_runtime.py'
]
load_from = 'Swindl/GLUS-S-partial'
model = dict(
    mllm=dict(trainable=[]), mask_head=dict(trainable=[]),
    test_cfg=dict(memory_stride=5))
train_dataloader = None
test_cfg = dict(type='TestLoop')
