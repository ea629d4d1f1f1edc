# Pseudo-labels on the first half of the training set of MeViS. The paper takes a GLUS that was
# stopped early, after 500 of 3000 steps. Not run.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/mevis.py',
    '../_base_/default_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'  # what the training started from: frozen weights, tokenizer
# What tools/test.py takes where no checkpoint is named.
checkpoint = 'work_dirs/glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos/iter_5000.pth'
model = dict(mllm=dict(trainable=[]), mask_head=dict(trainable=[]))
train_dataloader = None
test_cfg = dict(type='TestLoop')
test_dataloader = dict(dataset=dict(
    data_root='data/mevis/train', indices=831))
test_evaluator = dict(
    _delete_=True, type='FrameIoUMetric',
    out_file='work_dirs/frame_ious/mevis_train.json')
