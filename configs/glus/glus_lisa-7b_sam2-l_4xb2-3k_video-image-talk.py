# Standard-SFT with what keeps the MLLM: image referring, reasoning and semantic data, and talk about
# images and videos, in the ratios of LISA and VISA (../_base_/datasets/video-image-talk.py). Steps
# and schedule are those of Standard-SFT (3000), which neither paper mixed so. Not run.
_base_ = [
    '../_base_/models/glus_lisa-7b_sam2-l_lora.py', '../_base_/datasets/video-image-talk.py',
    '../_base_/schedules/sft_3k.py', '../_base_/sft_runtime.py'
]
load_from = 'xinlai/LISA-7B-v1'
model = dict(loss_contrastive=dict(
    type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']))
