# Table 5: GLUS starts at the key frames of a file and goes both ways. The tool names the file: of
# the trained selector, of the untrained one, or of the best frames (the oracle). Test only, on the
# default and the late variant.
_base_ = ['./glu.py']
test_dataloader = dict(dataset=dict(
    datasets=[_base_.test_dataloader.dataset.datasets[i] for i in (0, 4)]))
model = dict(
    train_cfg=dict(use_memory=True),
    test_cfg=dict(
        use_memory=True,
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json')))
