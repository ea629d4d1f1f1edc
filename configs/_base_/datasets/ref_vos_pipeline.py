# From a video to a sample, for models of the published size: the image sizes and the texts are those
# of ../models/glus_lisa-7b_sam2-l.py. Every data set of that size inherits from here.
train_pipeline = [
    dict(
        type='SampleContextQueryFrames', num_context=4, num_query=4, num_expressions=3,
        strategy='global_local'),
    dict(type='LoadRefVOSFrames'),
    dict(type='LoadRefVOSMasks', overlap='or'),
    dict(type='ResizeForEncoders', vision_size=224, sam_size=1024, vision_crop='center'),
    dict(type='BuildConversation', tokenizer='load_from', template='llava_v1'),
    dict(type='PackRefVOSInputs')
]
test_pipeline = [
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='OpenFrameReader'),
    dict(type='LoadRefVOSGroundTruth'),
    dict(type='PackRefVOSInputs')
]
