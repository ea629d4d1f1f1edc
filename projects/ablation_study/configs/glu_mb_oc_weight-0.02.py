# As glu_mb_oc.py, with another weight of the contrastive loss.
_base_ = ['./glu_mb_oc.py']
model = dict(loss_contrastive=dict(loss_weight=0.02))
