# Table 1, VISA: trained on random context frames and one random frame with one token; tested on
# uniform context and the key frame, whose mask an external tracker carries on. The key frames are
# those of a file: docs/key_frames.md.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
_base_.train_pipeline[0].update(strategy='random', num_context=7, num_query=1)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(test_cfg=dict(
    num_context=7,
    selector=dict(type='FileKeyFrameSelector', file='work_dirs/key_frames/mevis_valid_u.json'),
    propagator=dict(
        type='SAM2Propagator', sam2='sam2_hiera_l', checkpoint='facebook/sam2-hiera-large')))
