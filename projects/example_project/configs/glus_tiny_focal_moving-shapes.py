# The embedded default with a loss and a transform of this project. The default scope is this
# project's, so what belongs to glus_mm says so.
_base_ = ['../../../configs/glus/glus_tiny_moving-shapes.py']
default_scope = 'example_project'
custom_imports = dict(imports=['example_project'])

# Children of glus_mm.GLUS need no prefix: it builds them in its own scope. Ours do.
model = dict(
    type='glus_mm.GLUS',
    loss_mask_bce=dict(_delete_=True, type='example_project.FocalMaskLoss', gamma=2.0))

# In a pipeline, one way is a prefix for each transform of glus_mm ...
train_pipeline = [
    dict(
        type='glus_mm.SampleContextQueryFrames', num_context=4, num_query=4, num_expressions=4,
        strategy='global_local'),
    dict(type='glus_mm.LoadRefVOSFrames'),
    dict(type='JitterBrightness', amount=0.2),
    dict(type='glus_mm.LoadRefVOSMasks', overlap='or'),
    dict(type='glus_mm.ResizeForEncoders', vision_size=64, sam_size=128, vision_crop='squash'),
    dict(type='glus_mm.BuildConversation', tokenizer='tiny', template='compact'),
    dict(type='glus_mm.PackRefVOSInputs')
]
train_dataloader = dict(
    sampler=dict(type='glus_mm.InfiniteVideoSampler'),
    dataset=dict(type='glus_mm.MovingShapesDataset', pipeline=train_pipeline))

# ... the other is the scope of the whole data set.
test_dataloader = dict(
    sampler=dict(type='glus_mm.BalancedVideoSampler'), dataset=dict(_scope_='glus_mm'))
test_evaluator = dict(type='glus_mm.RefVOSMetric')
