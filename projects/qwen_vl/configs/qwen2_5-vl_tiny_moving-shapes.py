# GLUS on Qwen2.5-VL at a tiny random size, on MovingShapes.
_base_ = ['../../../configs/glus/glus_tiny_moving-shapes.py']
custom_imports = dict(imports=['qwen_vl'])
load_from = None
image_size = 64

# The tokenizer of this size has no word of one token for what is not there.
model = dict(existence='mask', test_cfg=dict(seg_threshold=None), mllm=dict(
    _delete_=True,
    type='QwenVLMLLM',
    image_size=image_size,
    tokenizer='qwen-tiny',
    template='compact',
    vision_crop='squash',
    network=dict(
        model_type='qwen2_5_vl',
        vision=dict(
            depth=3, hidden_size=128, intermediate_size=256, num_heads=4, patch_size=4,
            window_size=32, fullatt_block_indexes=[2]),
        text=dict(
            hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.09,
            rope_parameters=dict(rope_type='default', mrope_section=[4, 6, 6], rope_theta=10000.0)))
))

_base_.train_pipeline[3].update(vision_size=image_size)
_base_.train_pipeline[4] = dict(
    type='BuildQwenConversation', tokenizer='qwen-tiny', template='compact')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
