# The row LLaMA-VID 13B of table 5. Not run.
_base_ = './llama-vid-7b_video-qa.py'
model = dict(
    mllm=dict(
        tokenizer='checkpoints/llama-vid-13b-full-224-video-fps-1',
        llm=dict(
            hidden_size=5120, intermediate_size=13824, num_hidden_layers=40,
            num_attention_heads=40)))
