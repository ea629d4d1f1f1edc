# What every run shares. Inherit by path: _base_ = ['../_base_/default_runtime.py', ...]. With the
# prefix glus_mm it serves projects with another default scope too.
default_scope = 'glus_mm'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Files that torch.load(weights_only=True) accepts, whole or not at all, from which a run goes
    # on exactly. A run that starts from a checkpoint of a part of the model sets strict=False here.
    checkpoint=dict(
        type='glus_mm.SafeCheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Does nothing in a model without a contrastive loss.
    token_bank=dict(type='glus_mm.TokenBankHook'),
    # A resumed run goes on with the next samples, without loading those before.
    resume_sampler=dict(type='glus_mm.ResumeSamplerHook'),
    # Saves the state of the training before an error of its data ends it.
    data_error=dict(type='glus_mm.DataErrorHook'),
    # Stops a run whose loss is NaN or infinite, before it does damage, and names the samples.
    finite_loss=dict(type='glus_mm.FiniteLossHook'),
    # Saves and ends at the next step after SIGTERM or SIGUSR1, as Slurm sends them.
    preemption=dict(type='glus_mm.PreemptionHook'),
    # Draws with tools/test.py --show-dir.
    visualization=dict(type='glus_mm.RefVOSVisualizationHook'))

# nccl becomes gloo where there is no CUDA (tools/train.py and tools/test.py see to it).
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# SAM-2 has parts that GLUS never runs (object pointers, further mask tokens).
find_unused_parameters = True

# For TensorBoard beside it add dict(type='TensorboardVisBackend') to vis_backends in a config, or
# have it instead: --cfg-options visualizer.vis_backends.0.type=TensorboardVisBackend
vis_backends = [dict(type='LocalVisBackend')]
# Without a name: two runs in one process then have a visualizer, and a folder, each.
visualizer = dict(
    type='glus_mm.RefVOSLocalVisualizer', vis_backends=vis_backends, legend_position='below')

# Losses, times and gradient norms in the log are means over the last 10 iterations.
log_processor = dict(type='glus_mm.MemoryLogProcessor', by_epoch=False, window_size=10)
log_level = 'INFO'
randomness = dict(seed=0)

load_from = None
resume = False
