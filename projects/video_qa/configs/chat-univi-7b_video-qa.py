# Off-the-shelf Chat-UniVi-7B of table 5: VISA's question, ten answers, their mean. Not run. The
# paper gives no settings; 0.2 is the temperature of Chat-UniVi's own evaluation. The result, key
# frames of MeViS valid_u, is for FileKeyFrameSelector.
#   PYTHONPATH=projects/video_qa python tools/test.py \
#       projects/video_qa/configs/chat-univi-7b_video-qa.py Chat-UniVi/Chat-UniVi
_base_ = [
    '../../../configs/_base_/models/key-frame-selector_chat-univi-7b.py',
    '../../../configs/_base_/datasets/mevis.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['video_qa'], allow_failed_imports=False)
load_from = 'Chat-UniVi/Chat-UniVi'
model = dict(
    _delete_=True, type='VideoQASelector', dtype='bfloat16',
    mllm=dict(_base_.mllm, type='ChatUniViVideoQA', seg_dim=256, lora=None, trainable=[],
              gradient_checkpointing=False),
    test_cfg=dict(num_answers=10, temperature=0.2))
train_dataloader = None
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='OpenFrameReader'), dict(type='PackRefVOSInputs')]))
test_evaluator = dict(
    _delete_=True, type='KeyFrameMetric', out_dir='work_dirs/key_frames/chat-univi_mevis_valid_u')
test_cfg = dict(type='TestLoop')
