# Table 1, VideoLISA's frames: uniform frames, and one token that prompts SAM-2 on all of them. In
# training the LLM sees 4 uniform context frames and the first of the 4 query frames, which are
# uniform too, each from a quarter of the video; the token of that turn has to do for all 4. In
# testing it sees the context and the key frame (the first one by default).
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
_base_.train_pipeline[0].update(strategy='global')
_base_.train_pipeline[4].update(one_token_seg_all=True)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(
    train_cfg=dict(use_memory=False, one_token_seg_all=True),
    test_cfg=dict(use_memory=False, propagator=dict(type='OneTokenPropagator')))
