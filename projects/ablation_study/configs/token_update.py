# Beside Table 1, TrackGPT: as local.py, and the token of a frame is updated by that of the frame
# before.
_base_ = ['./glu.py']
_base_.train_pipeline[0].update(strategy='local')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
# A token is updated by one that was said: every frame says [SEG].
model = dict(
    existence='mask', token_update=dict(type='TokenUpdate'), test_cfg=dict(num_context=0))
# The start has no weights of the update; they begin at zero.
default_hooks = dict(checkpoint=dict(strict=False))
