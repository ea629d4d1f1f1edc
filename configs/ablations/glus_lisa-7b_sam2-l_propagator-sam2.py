# Table 6, "SAM-2": GLUS masks the key frame, the published SAM-2 large tracks on. Test only.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l.py', '../_base_/datasets/mevis.py',
    '../_base_/default_runtime.py'
]
load_from = 'Swindl/GLUS-S'
model = dict(
    mllm=dict(trainable=[]), mask_head=dict(trainable=[]),
    test_cfg=dict(
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/key_frames/mevis_valid_u.json'),
        propagator=dict(
            type='SAM2Propagator', sam2='sam2_hiera_l', checkpoint='facebook/sam2-hiera-large')))
train_dataloader = None
test_cfg = dict(type='TestLoop')
