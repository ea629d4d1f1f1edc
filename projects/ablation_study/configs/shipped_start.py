# The shipped model from the key frames of a file, both ways. Test only.
_base_ = ['./glu.py']
model = dict(
    train_cfg=dict(use_memory=True),
    test_cfg=dict(
        use_memory=True,
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json')))
