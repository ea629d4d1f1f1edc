# Stage 2 with DeepSpeed's ZeRO-2, to try it: bash tools/dist_train.sh <this file> 2
_base_ = ['./glus_tiny_moving-shapes.py']
runner_type = 'FlexibleRunner'
strategy = dict(type='glus_mm.SafeDeepSpeedStrategy', zero_optimization=dict(stage=2))
optim_wrapper = dict(type='ZeroOptimWrapper')
