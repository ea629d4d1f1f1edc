# What dev/check_resume.py trains: a model as small as can be, in which all that is random in
# a training is random: dropout in the adapters and in the memory, the mix of data sets, frames and
# expressions, and the draws of the contrastive loss. The tool names base.pth and the data.
_base_ = [
    '../configs/_base_/models/glus_tiny.py', '../configs/_base_/datasets/moving_shapes.py',
    '../configs/_base_/schedules/adamw.py', '../configs/_base_/default_runtime.py'
]
model = dict(
    mllm=dict(
        vision_tower=dict(hidden_size=16, num_hidden_layers=1, intermediate_size=32),
        llm=dict(hidden_size=32, num_hidden_layers=1, intermediate_size=32),
        lora=dict(r=2, alpha=4, dropout=0.3),
        trainable=['llm.*.lora_*', 'llm.embed_tokens.*', 'projector.*', 'seg_projector.*']),
    mask_head=dict(
        image_size=64, sam2=dict(d_model=32, dropout=0.3),
        trainable=['sam2.sam_mask_decoder.*', 'sam2.memory_attention.*', 'sam2.memory_encoder.*']),
    loss_contrastive=dict(
        type='ObjectContrastiveLoss', num_negatives=4, min_tokens=1, bank=dict(size=48)))
load_from = 'base.pth'
_base_.train_pipeline[0].update(num_context=2, num_query=2)
_base_.train_pipeline[3].update(sam_size=64)
child = dict(
    type='MovingShapesDataset', data_root='train', min_frames=4, pipeline=_base_.train_pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=1, persistent_workers=False,
    sampler=dict(_delete_=True, type='MixedVideoSampler', ratios=[2, 1]),
    dataset=dict(_delete_=True, type='MixedRefVOSDataset', datasets=[
        child, dict(child, seed=1, metainfo=dict(dataset='others'))]))
# Two iterations make a step, so that a checkpoint that is due in between has to wait.
optim_wrapper = dict(accumulative_counts=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=10, by_epoch=False),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=10, end=60, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=60)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=3, max_keep_ckpts=3, leave_out_frozen=True))
