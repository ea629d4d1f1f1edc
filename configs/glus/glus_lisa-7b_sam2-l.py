# GLUS as published, for testing and demos. Any checkpoint of this size can be given:
#   python tools/test.py configs/glus/glus_lisa-7b_sam2-l.py Swindl/GLUS-S
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l.py', '../_base_/datasets/mevis.py',
    '../_base_/default_runtime.py'
]
load_from = 'Swindl/GLUS-S'
# Nothing is trained, so that all of it is held in bfloat16.
model = dict(mllm=dict(trainable=[]), mask_head=dict(trainable=[]))
train_dataloader = None
test_cfg = dict(type='TestLoop')
