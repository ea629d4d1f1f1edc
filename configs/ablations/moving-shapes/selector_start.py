# Table 5: GLUS starts at the key frames of a file and goes both ways. The tool names the file: of
# the trained selector, of the untrained one, or of the best frames (the oracle). Test only, on the
# default and the late variant.
_base_ = ['./glu_mb_oc.py']
test_dataloader = dict(dataset=dict(
    datasets=[_base_.test_dataloader.dataset.datasets[i] for i in (0, 4)]))
model = dict(test_cfg=dict(selector=dict(
    type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json')))
