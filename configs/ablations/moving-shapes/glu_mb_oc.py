# Table 4, GLU + MB + OC: the object contrastive loss, too.
_base_ = ['./glu_mb.py']
model = dict(loss_contrastive=dict(type='ObjectContrastiveLoss', loss_weight=0.1))
