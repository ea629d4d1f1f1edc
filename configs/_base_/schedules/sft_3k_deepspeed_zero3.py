# sft_3k.py with DeepSpeed's ZeRO-3: weights are spread over processes too.
_base_ = ['./sft_3k.py']
runner_type = 'FlexibleRunner'
strategy = dict(
    type='glus_mm.SafeDeepSpeedStrategy',
    zero_optimization=dict(stage=3, reduce_bucket_size=50_000_000))
optim_wrapper = dict(type='ZeroOptimWrapper')
