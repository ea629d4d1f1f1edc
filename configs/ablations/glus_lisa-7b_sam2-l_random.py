# Table 1, VISA: trained on random context frames and one random frame with one token; tested on
# uniform context and the key frame, whose mask an external tracker carries on. The key frames are
# those of a file: docs/key_frames.md.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
_base_.train_pipeline[0].update(strategy='random', num_context=7, num_query=1)
train_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, pipeline=_base_.train_pipeline)
    for dataset in _base_.train_dataloader.dataset.datasets
]))
model = dict(test_cfg=dict(
    num_context=7,
    selector=dict(type='FileKeyFrameSelector', file='work_dirs/key_frames/mevis_valid_u.json'),
    propagator=dict(
        type='SAM2Propagator', sam2='sam2_hiera_l', checkpoint='facebook/sam2-hiera-large')))
