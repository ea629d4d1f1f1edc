# SAM 3's tracker in place of SAM-2, all of it trained from random weights. For published ones:
# mask_head=dict(_delete_=True, type='Sam3TrackerHead', model='facebook/sam3').
_base_ = ['./glus_tiny_moving-shapes.py']
load_from = None
model = dict(
    data_preprocessor=dict(sam_mean=(0.5, 0.5, 0.5), sam_std=(0.5, 0.5, 0.5)),
    mask_head=dict(
        _delete_=True,
        type='Sam3TrackerHead',
        image_size=112,
        dynamic_multimask=False,
        model=dict(
            vision_config=dict(
                model_type='sam3_vision_model', fpn_hidden_size=128,
                backbone_config=dict(
                    model_type='sam3_vit_model', hidden_size=64, intermediate_size=128,
                    num_hidden_layers=3, num_attention_heads=2, image_size=112, patch_size=14,
                    window_size=4, global_attn_indexes=[2], pretrain_image_size=56)),
            prompt_encoder_config=dict(hidden_size=128),
            mask_decoder_config=dict(hidden_size=128),
            memory_attention_hidden_size=128, memory_attention_num_layers=1,
            memory_attention_feed_forward_hidden_size=256, memory_encoder_hidden_size=128,
            mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
            memory_fuser_intermediate_dim=256)))
_base_.train_pipeline[3].update(sam_size=112)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
