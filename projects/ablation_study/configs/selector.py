# Table 5: the key-frame selector of section B.4, trained on the pseudo-labels of selector_ious.py.
_base_ = ['../../../configs/selectors/key-frame-selector_tiny_moving-shapes.py']
# After a short training the text is not always learned; the score is taken in any case.
model = dict(test_cfg=dict(need_token=False))
data_root = 'data/moving_shapes_variants'
_base_.train_pipeline[1].update(file='work_dirs/ablation/ious_train.json')
_base_.test_pipeline[1].update(file='work_dirs/ablation/ious_valid.json')
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[1, 1]),
    dataset=dict(
        _delete_=True, type='MixedRefVOSDataset', pipeline=_base_.train_pipeline, datasets=[
            dict(type='MovingShapesDataset', data_root=f'{data_root}/{name}/train', indices=60)
            for name in ('default', 'late')
        ]))
test_dataloader = dict(
    dataset=dict(
        _delete_=True, type='MixedRefVOSDataset', pipeline=_base_.test_pipeline, datasets=[
            dict(
                type='MovingShapesDataset', data_root=f'{data_root}/{name}/valid_u',
                test_mode=True) for name in ('default', 'late')
        ]))
