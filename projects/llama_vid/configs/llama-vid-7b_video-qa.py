# LLaMA-VID-7B, off the shelf: VISA's question, ten answers, their mean. Not run. README.md beside
# this folder has the commands.
_base_ = ['../../../configs/_base_/datasets/mevis.py', '../../../configs/_base_/default_runtime.py']
custom_imports = dict(imports=['video_qa', 'llama_vid'], allow_failed_imports=False)
model = dict(
    type='VideoQASelector',
    dtype='bfloat16',
    mllm=dict(
        type='LlamaVidVideoQA',
        tokenizer='checkpoints/llama-vid-7b-full-224-video-fps-1',
        text_tokenizer='checkpoints/bert-base-uncased',
        vision=dict(
            hidden_size=1408, intermediate_size=6144, num_hidden_layers=39, num_attention_heads=16,
            image_size=224, patch_size=14, hidden_act='gelu', layer_norm_eps=1e-6, qkv_bias=True),
        # The vocabulary of BERT and [DEC].
        qformer=dict(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            cross_attention_frequency=2, vocab_size=30523, max_position_embeddings=512),
        llm=dict(
            hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
            num_attention_heads=32, vocab_size=32000, max_position_embeddings=4096,
            rms_norm_eps=1e-5)),
    # As many frames as the LLM has room for, at two tokens each; the temperature is VISA's.
    test_cfg=dict(num_frames=256, num_answers=10, temperature=0.6))
train_dataloader = None
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='SampleContextQueryFrames', test_mode=True),
    dict(type='OpenFrameReader'),
    dict(type='PackRefVOSInputs')
]))
test_evaluator = dict(
    _delete_=True, type='KeyFrameMetric', out_dir='work_dirs/key_frames/llama-vid_mevis_valid_u')
test_cfg = dict(type='TestLoop')
