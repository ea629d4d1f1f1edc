# EdgeTAM in place of SAM-2, all of it trained from random weights. For published ones:
# mask_head=dict(_delete_=True, type='EdgeTAMHead', model='yonigozlan/EdgeTAM-hf').
_base_ = ['./glus_tiny_moving-shapes.py']
load_from = None
model = dict(mask_head=dict(
    _delete_=True,
    type='EdgeTAMHead',
    image_size=128,
    dynamic_multimask=False,
    model=dict(
        vision_config=dict(
            model_type='edgetam_vision_model', fpn_hidden_size=128,
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            backbone_config=dict(
                model_type='timm_wrapper', architecture='repvit_m1', num_classes=1,
                model_args=dict(in_chans=3, features_only=True, out_indices=[0, 1, 2, 3]))),
        prompt_encoder_config=dict(hidden_size=128, image_size=128),
        mask_decoder_config=dict(hidden_size=128),
        memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_mlp_hidden_size=256, memory_attention_rope_feat_sizes=[8, 8],
        memory_attention_rope_k_sizes=[4, 4], perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=16, memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=256)))
