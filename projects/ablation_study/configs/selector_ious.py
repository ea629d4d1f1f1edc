# Table 5, pseudo-labels: the IoU of every frame of the first videos of the default and the late
# variant, by the model of glu_mb_oc.py.
_base_ = ['./glu.py']
test_dataloader = dict(dataset=dict(datasets=[
    dict(
        type='MovingShapesDataset', data_root=f'{_base_.data_root}/{name}/train', indices=60,
        test_mode=True) for name in ('default', 'late')
]))
test_evaluator = dict(
    _delete_=True, type='FrameIoUMetric', out_file='work_dirs/ablation/ious_train.json')
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True))
