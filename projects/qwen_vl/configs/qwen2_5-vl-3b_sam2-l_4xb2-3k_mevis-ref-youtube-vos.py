# Standard-SFT on Qwen2.5-VL-3B. Frames of 224 px make 64 visual tokens, as many as in GLUS. load_from
# is written by tools/start_weights.py of this project: Qwen's weights and those of SAM-2.
_base_ = [
    '../../../configs/_base_/models/glus_lisa-7b_sam2-l_lora.py',
    '../../../configs/_base_/datasets/standard-sft.py',
    '../../../configs/_base_/schedules/sft_3k.py', '../../../configs/_base_/sft_runtime.py'
]
custom_imports = dict(imports=['qwen_vl'])
load_from = 'work_dirs/qwen2_5-vl-3b_sam2-l.pth'
network = 'Qwen/Qwen2.5-VL-3B-Instruct'

model = dict(
    loss_contrastive=dict(type='ObjectContrastiveLoss', loss_weight=0.1, datasets=['mevis']),
    mllm=dict(
        _delete_=True,
        type='QwenVLMLLM',
        network=network,
        image_size=224,
        template='llava_v1',
        vision_crop='squash',
        lora=dict(r=8, alpha=16, dropout=0.05, target_modules=('q_proj', 'v_proj')),
        trainable=['llm.*.lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'seg_projector.*'],
        gradient_checkpointing=True))

_base_.train_pipeline[3].update(vision_crop='squash')
_base_.train_pipeline[4] = dict(
    type='BuildQwenConversation', tokenizer=network, template='llava_v1')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
