# sft_3k.py with DeepSpeed's ZeRO-3: weights are spread over processes too.
_base_ = ['./sft_3k_deepspeed_zero2.py']
strategy = dict(zero_optimization=dict(stage=3))
