# The shipped model from the key frames of a file, both ways. Test only.
_base_ = ['./glu_mb.py']
model = dict(test_cfg=dict(selector=dict(
    type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json')))
