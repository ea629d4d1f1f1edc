# Table 6: from the key frame on, the SAM-2 inside the model tracks without words. Test only, on the
# default and the late variant.
_base_ = ['./glu.py']
test_dataloader = dict(dataset=dict(
    datasets=[_base_.test_dataloader.dataset.datasets[i] for i in (0, 4)]))
model = dict(
    train_cfg=dict(use_memory=True),
    test_cfg=dict(
        use_memory=True,
        selector=dict(
            type='FileKeyFrameSelector', file='work_dirs/ablation/key_frames.json'),
        propagator=dict(
            type='SAM2Propagator', dynamic_multimask=False, use_pointers=False,
            use_object_scores=False)))
