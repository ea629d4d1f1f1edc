# Standard-SFT (GLUS-S): 3000 optimizer steps of 4 processes x 2 videos x 10 micro-batches, from
# LISA-7B-v1 and SAM-2 large. The conversion of LISA gives it a new seg_projector.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/standard-sft.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(loss_contrastive=dict(
    type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']))
