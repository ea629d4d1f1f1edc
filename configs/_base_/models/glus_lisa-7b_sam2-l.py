# GLUS as published: LISA-7B-v1 (LLaVA v1 on LLaMA-7B and CLIP ViT-L/14) and SAM-2 large, about 7.3 B
# parameters. The sizes are those of LLaVA-Lightning-7B-v1-1, which LISA-7B-v1 started from.
mask_head = dict(
    type='SAM2MemoryHead',
    sam2='sam2_hiera_l',
    image_size=1024,
    dynamic_multimask=True)

mllm = dict(
    type='LlavaMLLM',
    # The one that comes with the weights, so that their name stands once, in load_from.
    tokenizer='load_from',
    template='llava_v1',
    pooling='raster4',
    vision_crop='center',
    vision_select_layer=-2,
    vision_tower=dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        image_size=224, patch_size=14, hidden_act='quick_gelu', layer_norm_eps=1e-5),
    llm=dict(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008,
        max_position_embeddings=2048, rms_norm_eps=1e-6))

model = dict(
    type='GLUS',
    # Frozen parameters are held and computed in it; trained ones are kept in float32.
    dtype='bfloat16',
    data_preprocessor=dict(type='RefVOSDataPreprocessor'),
    mllm=mllm,
    mask_head=mask_head,
    loss_ce=dict(type='TokenCELoss', loss_weight=1.0),
    loss_mask_bce=dict(type='MaskBCELoss', loss_weight=2.0),
    loss_mask_dice=dict(type='MaskDiceLoss', loss_weight=0.5),
    ce_target='seg',
    test_cfg=dict(use_memory=True, memory_stride=3, num_context=4, window=4))
