# Table 6, "SAM-2": GLUS masks the key frame, the published SAM-2 large tracks on. Test only.
_base_ = ['../glus/glus_lisa-7b_sam2-l.py']
model = dict(test_cfg=dict(
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/key_frames/mevis_valid_u.json'),
        propagator=dict(
            type='SAM2Propagator', sam2='sam2_hiera_l', checkpoint='facebook/sam2-hiera-large')))
