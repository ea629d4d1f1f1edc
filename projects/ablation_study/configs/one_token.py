# Beside Table 1, VideoLISA: uniform frames, and one token that prompts SAM-2 on all of them; see
# configs/ablations/glus_lisa-7b_sam2-l_one-token.py.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='global')
_base_.train_pipeline[4].update(one_token_seg_all=True)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
model = dict(
    train_cfg=dict(one_token_seg_all=True),
    test_cfg=dict(propagator=dict(type='OneTokenPropagator')))
