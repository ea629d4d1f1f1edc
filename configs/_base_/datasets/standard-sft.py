# Standard-SFT (GLUS-S): MeViS and Ref-YouTube-VOS 1:1. Another ratio, as in Table 7 of the paper:
#   train_dataloader = dict(sampler=dict(ratios=[2, 1]))
_base_ = ['./ref_vos_pipeline.py', './sft_sets.py']

train_dataloader = dict(
    sampler=dict(type='MixedVideoSampler', ratios=[1, 1]),
    dataset=dict(
        type='MixedRefVOSDataset', pipeline=_base_.train_pipeline,
        datasets=[_base_.mevis_train, _base_.ref_youtube_vos_train]))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
