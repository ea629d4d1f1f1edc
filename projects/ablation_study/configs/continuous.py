# Beside Table 1, ViLLa: as local.py, but clip by clip: 4 consecutive frames are one conversation, and
# nothing goes from one clip to the next.
_base_ = ['./local.py']
model = dict(test_cfg=dict(propagator=dict(type='FoldPropagator', frames='consecutive')))
