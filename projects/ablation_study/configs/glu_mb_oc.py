# Table 4, GLU + MB + OC: the object contrastive loss, too.
_base_ = ['./glu.py']
model = dict(
    loss_contrastive=dict(type='ObjectContrastiveLoss', loss_weight=0.1),
    train_cfg=dict(use_memory=True),
    test_cfg=dict(use_memory=True))
