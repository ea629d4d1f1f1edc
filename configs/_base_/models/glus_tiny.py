# GLUS at a size that trains on two CPU cores: about 4 M parameters, no pretrained part.
mask_head = dict(
    type='SAM2MemoryHead',
    sam2=dict(embed_dim=16, stages=(1, 2, 2, 1), d_model=128, mem_dim=64, dropout=0.0),
    image_size=128,
    # Only mask token 0 is trained here, so that the other ones must not be chosen.
    dynamic_multimask=False)

mllm = dict(
    type='LlavaMLLM',
    tokenizer='tiny',
    template='compact',
    # 64 visual tokens a frame, as many as at the published size.
    pooling='none',
    vision_crop='squash',
    vision_select_layer=-1,
    vision_tower=dict(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256,
        image_size=64, patch_size=8),
    llm=dict(
        hidden_size=128, num_hidden_layers=5, num_attention_heads=2, intermediate_size=256,
        max_position_embeddings=2048,
        # Slow rotation, so that attention can compare tokens across the frames of a prompt.
        rope_parameters=dict(rope_type='default', rope_theta=100000.0),
        # About 1 / sqrt(hidden_size): with LLaMA's own 0.02 a model of this width does not
        # leave the plateau where it segments every object.
        initializer_range=0.09))

model = dict(
    type='GLUS',
    data_preprocessor=dict(type='RefVOSDataPreprocessor'),
    mllm=mllm,
    mask_head=mask_head,
    loss_ce=dict(type='TokenCELoss', loss_weight=1.0),
    loss_mask_bce=dict(type='MaskBCELoss', loss_weight=2.0),
    loss_mask_dice=dict(type='MaskDiceLoss', loss_weight=0.5),
    ce_target='answer',
    test_cfg=dict(use_memory=True, memory_stride=3, num_context=4, window=4))
