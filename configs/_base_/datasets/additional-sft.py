# Additional-SFT (GLUS-A): MeViS, Ref-YouTube-VOS, Ref-DAVIS17, ReVOS and LV-VIS.
_base_ = ['./ref_vos_pipeline.py', './sft_sets.py']

train_dataloader = dict(
    sampler=dict(type='MixedVideoSampler', ratios=[40, 150, 4, 30, 30]),
    dataset=dict(
        type='MixedRefVOSDataset', pipeline=_base_.train_pipeline, datasets=[
            _base_.mevis_train, _base_.ref_youtube_vos_train, _base_.ref_davis_train,
            _base_.revos_train, _base_.lv_vis_train
        ]))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
