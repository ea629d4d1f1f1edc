# The shipped model on the key frame; the SAM-2 inside it tracks without words. Test only.
_base_ = ['./glu.py']
model = dict(
    train_cfg=dict(use_memory=True),
    test_cfg=dict(
        use_memory=True,
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json'),
        propagator=dict(
            type='SAM2Propagator', dynamic_multimask=False, use_pointers=False,
            use_object_scores=False)))
