# GLUS on Qwen3-VL at a tiny random size, on MovingShapes.
_base_ = ['./qwen2_5-vl_tiny_moving-shapes.py']

model = dict(
    data_preprocessor=dict(vision_mean=(0.5, 0.5, 0.5), vision_std=(0.5, 0.5, 0.5)),
    mllm=dict(network=dict(
        _delete_=True,
        model_type='qwen3_vl',
        vision=dict(
            depth=3, hidden_size=128, intermediate_size=256, num_heads=4, patch_size=4,
            num_position_embeddings=256, deepstack_visual_indexes=[0, 1]),
        text=dict(
            hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, initializer_range=0.09,
            rope_parameters=dict(
                rope_type='default', mrope_section=[4, 6, 6], mrope_interleaved=True,
                rope_theta=10000.0)))))
