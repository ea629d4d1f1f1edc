# sft_3k.py with DeepSpeed's ZeRO-2: gradients and the optimizer's state are spread over processes.
_base_ = ['./sft_3k.py']
runner_type = 'FlexibleRunner'
strategy = dict(
    type='glus_mm.SafeDeepSpeedStrategy',
    # DeepSpeed's buffer of gradients: 200 MB instead of 2 GB.
    zero_optimization=dict(stage=2, reduce_bucket_size=50_000_000))
# Keeps optimizer, accumulation and clipping.
optim_wrapper = dict(type='ZeroOptimWrapper')
