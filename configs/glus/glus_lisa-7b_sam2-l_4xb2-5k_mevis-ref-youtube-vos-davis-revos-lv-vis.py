# Additional-SFT (GLUS-A): five data sets 40:150:4:30:30, no contrastive loss, 5000 optimizer steps
# as in the official script. The text of the paper says 3000:
#   --cfg-options train_cfg.max_iters=30000 param_scheduler.1.end=30000
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/additional-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
_base_.param_scheduler[1].update(end=5000 * 10)
param_scheduler = _base_.param_scheduler
train_cfg = dict(max_iters=5000 * 10)
