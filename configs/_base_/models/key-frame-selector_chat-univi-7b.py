# The paper's key-frame selector (section B.4, table B): Chat-UniVi-7B with a score MLP. Trained are
# adapters on the LLM, its embeddings and head, and the MLP; all else is frozen, in bfloat16.
mllm = dict(
    type='ChatUniViMLLM',
    # The one that comes with the weights, which tools/model_converters/chatunivi2mm.py writes.
    tokenizer='load_from',
    template='selector',
    vision_crop='center',
    vision_select_layer=-2,
    spatial_clusters=(64, 32, 16),
    vision_tower=dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        image_size=224, patch_size=14, hidden_act='quick_gelu', layer_norm_eps=1e-5),
    llm=dict(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008,
        max_position_embeddings=2048, rms_norm_eps=1e-6),
    lora=dict(r=8, alpha=16, dropout=0.05, target_modules=('q_proj', 'v_proj')),
    trainable=['llm.*.lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'seg_projector.*'],
    gradient_checkpointing=True)

model = dict(
    type='KeyFrameSelector',
    dtype='bfloat16',
    data_preprocessor=dict(type='RefVOSDataPreprocessor'),
    mllm=mllm,
    loss_score=dict(type='FrameScoreLoss', loss_weight=1.0),
    loss_ce=dict(type='TokenCELoss', loss_weight=1.0))
